"""`carso reproduce`: from a recipe to the thesis's table: train or adopt, evaluate, print, report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carso.commands.options import Device, Out, Recipe, Samples, Seed, Stop, Watch
from carso.commands.shared import claimed, command_line, experiment_of, prepare, say
from carso.processes.group import by_first

if TYPE_CHECKING:
    from carso import vote
    from carso.training.experiment import Experiment


def reproduce(
    recipe: Recipe,
    out: Out = None,
    seed: Seed = None,
    test_images: Annotated[int, typer.Option(min=1, help="How many test images, from the first.")] = 10_000,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Use the shipped weights; train nothing.")] = False,
    samples: Samples = None,
    stop: Stop = "confident",
    device: Device = "auto",
    watch: Watch = None,
) -> None:
    """Train a recipe from nothing (or take its shipped weights), evaluate it and write the report."""
    experiment = experiment_of(recipe, out, seed, device, samples, watch)
    with claimed(experiment.out):
        if pretrained:
            experiment.carry_out(shipped_of(experiment.recipe.data, experiment.recipe.name))
        else:
            experiment.check()
            prepare(experiment)
            experiment.complete()
        page = table(experiment, test_images, stop, command_line())
    say(f"report: {page}")


def shipped_of(data: str, recipe: str) -> str:
    """The name of a recipe's shipped weights: the recipe's own, or behind that of its data."""
    from carso.storage import weights

    return recipe if recipe in weights.shipped() else f"{data}-{recipe}"


def table(experiment: Experiment, test_images: int, stop: vote.Stop, command: str = "") -> Path:
    """Evaluate a trained experiment on the first test images and return the report's path."""
    from carso import data
    from carso.evaluation import Settings, evaluate
    from carso.evaluation.models import models_of
    from carso.evaluation.radii import protocol_of
    from carso.report.publish import publish
    from carso.storage import weights

    recipe, out = experiment.recipe, experiment.out
    models = models_of(experiment.defence(), weights.load_undefended(out))
    settings = Settings(n=test_images, seed=recipe.seed, samples=recipe.samples, stop=stop)
    test = data.load(recipe.data, "test", **recipe.fitting)
    protocol = protocol_of(weights.origin(out), recipe.data)
    records = evaluate(
        models, test, settings=settings, recipe=recipe.name, command=command, directory=out, **vars(protocol)
    )
    return by_first(partial(publish, records, out))
