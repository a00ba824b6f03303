"""One recipe, several seeds: everything trained from nothing and evaluated, then the rows' means and spreads.

    python benchmarks/seeds.py quick benchmarks/results/quick-seeds --seeds 0 1 2 [--images 10000]

Each seed's run is kept under out/seeds/RECIPE-SEED and is not done again. The summary holds, per row and column, the
mean and the sample standard deviation of the accuracy over the seeds, and each seed's own figure.
"""

import argparse
import json
from pathlib import Path
from statistics import mean, stdev

import torch

from carso import data, weights
from carso.evaluation.evaluate import Settings, evaluate
from carso.evaluation.results import COLUMNS, Results
from carso.experiment import Experiment
from carso.report import wording
from carso.reproduce import columns_of
from carso.training.recipe import read_recipe

ROOT = Path(__file__).parents[1]


def run(recipe: str, seed: int, images: int) -> Results:
    experiment = Experiment(
        read_recipe(recipe).model_copy(update={"seed": seed}),
        ROOT / "out" / "seeds" / f"{Path(recipe).stem}-{seed}",
        torch.device("cpu"),
    )
    experiment.open()
    experiment.train_undefended()
    experiment.train_classifier()
    experiment.train_purifier()
    columns = columns_of(experiment.defence(), weights.load_undefended(experiment.out))
    settings = Settings(n=images, seed=seed, stop="confident", curve_images=0, sweep_images=0)
    test = data.load(experiment.recipe.data, "test")
    return evaluate(columns, test, settings=settings, recipe=recipe, directory=experiment.out).results()


def summary(recipe: str, runs: list[Results]) -> dict[str, object]:
    rows = []
    for same in zip(*(results.rows for results in runs), strict=True):
        row: dict[str, object] = {
            "title": wording.attack(same[0]),
            "attack": same[0].attack,
            "norm": same[0].norm,
            "eps": same[0].eps,
        }
        row["foreseen"], row["directed_at"] = same[0].foreseen, same[0].directed_at
        for column in COLUMNS:
            found = [getattr(each, column).accuracy for each in same]
            row[column] = {"mean": round(mean(found), 3), "sd": round(stdev(found), 3), "seeds": found}
        rows.append(row)
    first = runs[0]
    seeds = [results.seed for results in runs]
    return {"recipe": recipe, "n": first.n, "seeds": seeds, "environment": first.environment.model_dump(), "rows": rows}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--images", type=int, default=10_000)
    given = parser.parse_args()
    found = summary(given.recipe, [run(given.recipe, seed, given.images) for seed in given.seeds])
    given.out.mkdir(parents=True, exist_ok=True)
    (given.out / "seeds.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
