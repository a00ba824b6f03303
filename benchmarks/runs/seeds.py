"""One recipe, several seeds: everything trained from nothing, evaluated and audited; then means and spreads.

    python benchmarks/runs/seeds.py quick benchmarks/results/quick-seeds --seeds 0 1 2 [--images 10000]
    python benchmarks/runs/seeds.py robust-cnn benchmarks/results/robust-cnn-seeds --seeds 0 1 2 --audit 500

A recipe without a purifier has one column, its classifier's. What a seed gave is kept under OUT/SEED and is not done
again; its weights stay under out/seeds. OUT/seeds.json holds the mean and the sample standard deviation of the accuracy
over the seeds, and each seed's own figure: per row and column of the thesis's protocol, and, with --audit, per budget
and target of the audits (effort `standard`).
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from carso import data
from carso.audit import Audit, audit, read_audit
from carso.audit.loading import load_transfers
from carso.evaluation.evaluate import Settings, evaluate
from carso.evaluation.models import Model, models_of
from carso.evaluation.results import COLUMNS, Results, read_results, write_results
from carso.evaluation.results import FILE as RESULTS
from carso.report import wording
from carso.storage import weights
from carso.training.experiment import Experiment
from carso.training.reading import read_recipe

ROOT = Path(__file__).parents[2]
TARGETS = ("adversarially_trained", "carso")


def trained(recipe: str, seed: int) -> Experiment:
    experiment = Experiment(
        read_recipe(recipe).model_copy(update={"seed": seed}),
        ROOT / "out" / "seeds" / f"{Path(recipe).stem}-{seed}",
        torch.device("cpu"),
    )
    experiment.open()
    experiment.train_undefended()
    experiment.train_classifier()
    if experiment.recipe.purification:
        experiment.train_purifier()
    return experiment


def targets_of(recipe: str) -> tuple[str, ...]:
    """The columns that an audit attacks."""
    return TARGETS if read_recipe(recipe).purification else TARGETS[:1]


def columns_of(experiment: Experiment) -> dict[str, Model]:
    if experiment.recipe.purification:
        return models_of(experiment.defence(), experiment.undefended())
    return {TARGETS[0]: weights.load_classifier(experiment.out / weights.CLASSIFIER)}


def run(recipe: str, seed: int, images: int, audited: int, kept: Path) -> None:
    """What one seed gives, in its folder; refused if that holds another recipe's, or of other sizes."""
    wanted = [name for name in targets_of(recipe) if audited and kept_audit(kept / name, audited) is None]
    if (evaluated := kept_results(kept, recipe, seed, images)) and not wanted:
        return
    experiment = trained(recipe, seed)
    columns, test = columns_of(experiment), data.load(experiment.recipe.data, "test")
    kept.mkdir(parents=True, exist_ok=True)
    if not evaluated:
        settings = Settings(n=images, seed=seed, stop="confident", curve_images=0, sweep_images=0)
        directory = experiment.out / "test"
        write_results(evaluate(columns, test, settings=settings, recipe=recipe, directory=directory).results(), kept)
    transfer = load_transfers(str(experiment.out), experiment.recipe.data, ())
    for name in wanted:
        out = experiment.out / "audit" / name
        audit(columns[name], test, n=audited, seed=seed, transfer=transfer, name=name, out=out).write(kept / name)


def kept_results(kept: Path, recipe: str, seed: int, images: int) -> Results | None:
    if not (kept / RESULTS).exists():
        return None
    results = read_results(kept)
    if (results.recipe, results.seed, results.n) != (recipe, seed, images):
        raise SystemExit(f"{kept} holds {results.recipe}, seed {results.seed}, n = {results.n}; choose another OUT")
    return results


def kept_audit(kept: Path, n: int = 0) -> Audit | None:
    if not (kept / weights.AUDIT).exists():
        return None
    found = read_audit(kept)
    if n and found.n != n:
        raise SystemExit(f"{kept} holds an audit of {found.n} images, not of {n}; choose another OUT")
    return found


def spread(found: Sequence[float]) -> dict[str, Any]:
    return {"mean": round(mean(found), 3), "sd": round(stdev(found), 3), "seeds": list(found)}


def rows_of(runs: list[Results]) -> list[dict[str, Any]]:
    rows = []
    for same in zip(*(results.rows for results in runs), strict=True):
        row: dict[str, Any] = {"title": wording.attack(same[0])}
        row |= {name: getattr(same[0], name) for name in ("attack", "norm", "eps", "foreseen", "directed_at")}
        columns = [column for column in COLUMNS if getattr(same[0], column)]
        rows.append(row | {column: spread([getattr(each, column).accuracy for each in same]) for column in columns})
    return rows


def audits_of(audits: dict[str, list[Audit]]) -> list[dict[str, Any]]:
    first, budgets = audits[TARGETS[0]][0], []
    for place, budget in enumerate(first.budgets):
        left = {name: [found.budgets[place].worst_case.accuracy for found in audits[name]] for name in audits}
        entry = {"title": budget.title, "n": first.n, "effort": first.effort}
        budgets.append(entry | {name: spread(accuracies) for name, accuracies in left.items()})
    return budgets


def summary(recipe: str, folders: list[Path]) -> dict[str, Any]:
    runs = [read_results(folder) for folder in folders]
    found = {name: [a for folder in folders if (a := kept_audit(folder / name))] for name in targets_of(recipe)}
    complete = all(len(audits) == len(folders) for audits in found.values())
    return {
        "recipe": recipe,
        "n": runs[0].n,
        "seeds": [results.seed for results in runs],
        "environment": runs[0].environment.model_dump(),
        "rows": rows_of(runs),
        "audits": audits_of(found) if complete else [],
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--audit", type=int, default=0, help="images of the audits; none by default")
    given = parser.parse_args()
    folders = [given.out / str(seed) for seed in given.seeds]
    for seed, folder in zip(given.seeds, folders, strict=True):
        run(given.recipe, seed, given.images, given.audit, folder)
    if len(folders) > 1:
        found = summary(given.recipe, folders)
        (given.out / "seeds.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
