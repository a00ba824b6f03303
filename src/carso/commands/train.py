"""`carso train`: one stage of a recipe."""

from __future__ import annotations

import typer

from carso.commands.options import Device, Out, Recipe, Samples, Seed, Watch
from carso.commands.shared import claimed, experiment_of, prepare, say
from carso.commands.verb import Verb

train = typer.Typer(help="Train one stage of a recipe.", no_args_is_help=True)


@train.command(cls=Verb)
def classifier(
    recipe: Recipe,
    out: Out = None,
    seed: Seed = None,
    samples: Samples = None,
    device: Device = "auto",
    watch: Watch = None,
) -> None:
    """Stage 1: the classifiers of a recipe.

    An undefended one, and one that is adversarially trained.
    """
    experiment = experiment_of(recipe, out, seed, device, samples, watch)
    with claimed(experiment.out):
        experiment.check_images()
        prepare(experiment, ("undefended", "adversarial training"))
        experiment.train_undefended()
        experiment.train_classifier()
    say(f"classifiers: {experiment.out}")


@train.command(cls=Verb)
def purifier(
    recipe: Recipe,
    out: Out = None,
    seed: Seed = None,
    samples: Samples = None,
    device: Device = "auto",
    watch: Watch = None,
) -> None:
    """Stage 2: the purifier of the folder's classifier.

    That is trained first if it is not there.
    """
    experiment = experiment_of(recipe, out, seed, device, samples, watch)
    with claimed(experiment.out):
        experiment.check()
        prepare(experiment, ("adversarial training", "purifier", "hardening"))
        experiment.train_classifier()
        experiment.train_purifier()
    say(f"defence: {experiment.out}")
