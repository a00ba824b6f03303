"""From a recipe to the thesis's table: train or adopt, evaluate, print, report."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

from torch import nn

from carso import data, weights
from carso.checks import check_suits
from carso.defence import CARSO
from carso.evaluation.evaluate import Settings
from carso.evaluation.evaluate import evaluate as evaluate_columns
from carso.evaluation.records import Records
from carso.evaluation.results import FILE
from carso.experiment import Experiment
from carso.files import check_writable, write_text
from carso.report.page import write_report
from carso.report.table import markdown, print_table
from carso.vote import Stop


def reproduce(
    experiment: Experiment,
    *,
    test_images: int = 10_000,
    pretrained: bool = False,
    stop: Stop = "confident",
    command: str = "",
) -> Path:
    """Carry out a recipe in its folder and return the report's path.

    Args:
        experiment: recipe, seed and folder.
        test_images: how many images of the test split, from the first.
        pretrained: take the shipped weights of the recipe instead of training.
        stop: when the vote may stop early.
        command: what the report says to type to run it again.

    Raises:
        WeightsError: if weights are asked for that do not ship.
        RunError: if the folder holds another run.
    """
    recipe = experiment.recipe
    if pretrained:
        weights.find(f"{recipe.data}-{recipe.name}")
    else:
        experiment.check()
    experiment.open()
    if pretrained:
        experiment.adopt(f"{recipe.data}-{recipe.name}")
    experiment.train_undefended()
    experiment.train_classifier()
    experiment.train_purifier()
    columns = columns_of(experiment.defence(), weights.load_undefended(experiment.out))
    settings = Settings(n=test_images, seed=recipe.seed, samples=recipe.samples, stop=stop)
    test, out = data.load(recipe.data, "test"), experiment.out
    records = evaluate_columns(columns, test, settings=settings, recipe=recipe.name, command=command, directory=out)
    return _publish(records, out)


def evaluate(
    source: str,
    out: Path,
    *,
    data_name: str = "mnist",
    split: Literal["validation", "test"] = "test",
    images: int = 1000,
    seed: int = 0,
    stop: Stop = "confident",
    command: str = "",
    classifier: nn.Module | None = None,
) -> Path:
    """The table of a saved defence, written to `out`; returns the report's path.

    `classifier` is N, where the defence was trained for one of the user's own.
    """
    defence = weights.load(source, classifier)
    columns = columns_of(defence, weights.load_undefended(source))
    settings = Settings(n=images, seed=seed, stop=stop)
    name = f"{source} ({split})" if split != "test" else source
    dataset = data.load(data_name, split)
    check_suits(dataset, defence.purifier.shape, defence.classes)
    check_writable(out / FILE)
    records = evaluate_columns(columns, dataset, settings=settings, recipe=name, command=command, directory=out)
    return _publish(records, out)


def columns_of(defence: CARSO, undefended: nn.Module | None) -> dict[str, nn.Module]:
    """The table's columns, left to right."""
    first = {} if undefended is None else {"undefended": undefended}
    return {**first, "adversarially_trained": defence.classifier, "carso": defence}


def _publish(records: Records, out: Path) -> Path:
    results = records.results()
    print_table(results, file=sys.stdout)
    write_text(out / "results.md", markdown(results))
    return write_report(out)
