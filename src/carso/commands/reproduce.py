"""`carso reproduce`: from a recipe to the thesis's table, or a study's: train or adopt, evaluate, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carso.commands import completion
from carso.commands.options import Device, Out, Samples, Seed, Stop, Watch
from carso.commands.shared import claimed, command_line, experiment_of, prepare, say, table_of
from carso.errors import WeightsError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from carso import vote
    from carso.training.experiment import Experiment

ABLATIONS, RIVALS = "ablations", ("rivals", "rivals-fashion")
USUAL = 10_000
"""Test images of a recipe where nobody says how many."""


def reproduce(
    recipe: Annotated[
        str,
        typer.Argument(
            help="A shipped recipe (quick, ...), a YAML file, or ablations, rivals, rivals-fashion, or STUDY/NAME.",
            autocompletion=completion.of(completion.reproducible),
        ),
    ],
    out: Out = None,
    seed: Seed = None,
    test_images: Annotated[
        int | None,
        typer.Option(min=1, help="How many test images, from the first. [default: 10000; of a study its own]"),
    ] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Use the shipped weights; train nothing.")] = False,
    samples: Samples = None,
    stop: Stop = "confident",
    device: Device = "auto",
    watch: Watch = None,
) -> None:
    """Train a recipe from nothing, evaluate it, write the report.

    Weights that ship may be taken in place of training.
    """
    study, _, variant = recipe.partition("/")
    if study == ABLATIONS and not Path(recipe).is_file():
        ablations(variant, out, seed, test_images, pretrained, samples, stop, device, watch)
        return
    if study in RIVALS and not Path(recipe).is_file():
        idle = {"--pretrained": pretrained, "--samples": samples, "--stop": stop != "confident", "--watch": watch}
        rivals(study, variant, out, seed, test_images, device, [name for name, given in idle.items() if given])
        return
    experiment = experiment_of(recipe, out, seed, device, samples, watch)
    with claimed(experiment.out):
        if pretrained:
            experiment.carry_out(shipped_of(experiment.recipe.data, experiment.recipe.name))
        else:
            experiment.check()
            check_test(experiment, test_images)
            prepare(experiment)
            experiment.complete()
        page = table(experiment, test_images, stop, command_line())
    say(f"report: {page}")


def ablations(
    variant: str,
    out: Path | None,
    seed: int | None,
    test_images: int | None,
    pretrained: bool,
    samples: int | None,
    stop: vote.Stop,
    device: str,
    watch: str | None,
) -> None:
    """The ablation of that name, or all where it is empty, beside their base; says where images are fewer."""
    from carso.ablations import AblationStudy, read_study
    from carso.report.page import PAGE

    study = read_study()
    study.chosen(names := [variant] if variant else [])
    base = experiment_of(study.base, out or Path("out") / ABLATIONS, seed, device, samples, watch)
    shipped = shipped_of(base.recipe.data, base.recipe.name) if pretrained else None
    if test_images is None:
        say(f"ablations are evaluated on the first {study.images:,} test images; --test-images {USUAL} takes all")
    with claimed(base.out):
        settings = base.device, test_images or study.images, stop, command_line(), base.watcher
        run = AblationStudy(study, base.recipe, base.out, *settings)
        run.carry_out(names, shipped)
    say(f"report: {base.out / PAGE}")


def rivals(
    study_name: str,
    name: str,
    out: Path | None,
    seed: int | None,
    test_images: int | None,
    device: str,
    idle: Sequence[str],
) -> None:
    """The rival of that name, or all where it is empty, trained and audited; options that are `idle` are refused."""
    from carso.comparison import ComparisonStudy, read_study
    from carso.errors import CarsoError
    from carso.report.page import PAGE
    from carso.training.device import choose_device

    if idle:
        raise CarsoError(f"{idle[0]} is not for {study_name}: each is trained and asked as its study says")
    study = read_study(study_name)
    study.chosen(names := (name,) if name else ())
    folder = out or Path("out") / study_name
    with claimed(folder):
        run = ComparisonStudy(study, folder, choose_device(device), seed or 0, test_images, command_line())
        run.carry_out(names)
    say(f"report: {folder / PAGE}")


def shipped_of(data: str, recipe: str) -> str:
    """The name of a recipe's shipped weights: the recipe's own, or behind that of its data.

    Raises:
        WeightsError: if none ship, with the recipes whose do, or a plain classifier alone; says what measures it.
    """
    from carso.storage import weights
    from carso.training.reading import read_recipe
    from carso.training.reading import shipped as recipes

    name = _weights_of(data, recipe)
    if name in weights.shipped(weights.CLASSIFIER) and name not in weights.shipped():
        raise WeightsError(
            f"of the recipe {recipe} a plain classifier ships and no whole defence; "
            f"run `carso evaluate {name}/classifier`"
        )
    if name not in weights.shipped():
        of = [one for one in recipes() if _weights_of(read_recipe(one).data, one) in weights.shipped()]
        raise WeightsError(
            f"no weights of the recipe {recipe} ship; those of {', '.join(of)} do; leave out --pretrained to train it"
        )
    return name


def _weights_of(data: str, recipe: str) -> str:
    from carso.storage import weights

    return recipe if recipe in weights.shipped() else f"{data}-{recipe}"


def check_test(experiment: Experiment, test_images: int | None) -> None:
    """Raise a DataError before anything is trained if test images are missing, too few or of another shape."""
    from carso.data.labelled import check_alike, check_enough

    test = experiment.test
    check_alike(test, "test", experiment.train.shape)
    if test_images is not None:
        check_enough(test, test_images)


def table(experiment: Experiment, test_images: int | None, stop: vote.Stop, command: str = "") -> Path:
    """Evaluate a trained experiment on the first test images, and return the report's path.

    Where nobody says how many, `USUAL` are taken, or all if there are fewer; N labels them if nobody did.
    """
    from carso.evaluation import Settings
    from carso.evaluation.models import models_of
    from carso.evaluation.radii import protocol_of
    from carso.storage import weights

    recipe, defence = experiment.recipe, experiment.defence()
    return table_of(
        models_of(defence, experiment.undefended()),
        experiment.test,
        defence.classifier,
        protocol_of(weights.origin(experiment.out), recipe.data),
        Settings(n=test_images, seed=recipe.seed, samples=recipe.samples, stop=stop),
        experiment.out,
        usual=USUAL,
        recipe=recipe.name,
        command=command,
        adversarial=recipe.against_attacks,
    )
