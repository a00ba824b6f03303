"""The arguments and options that several verbs of the command line share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from carso.commands import completion
from carso.errors import CarsoError

MOST = 2**63 - 1
"""The largest seed that torch takes."""

MNIST = "mnist"
"""The data of a defence that does not say which are its own."""

CANDIDATES = 10_000
"""The largest K, that of `carso.vote`."""


def radius(written: str | float) -> float:
    """A radius from the command line.

    Raises:
        CarsoError: if it is neither a number nor a fraction.
    """
    from carso.types import radius

    try:
        return radius(str(written))
    except ValueError as error:
        raise CarsoError(f"--eps: {error}") from error


Recipe = Annotated[
    str,
    typer.Argument(
        help="A shipped recipe (quick, thesis, ...) or a YAML file.", autocompletion=completion.of(completion.recipes)
    ),
]
DEFENCES, TARGETS = completion.of(completion.defences), completion.of(completion.targets)
Defence = Annotated[
    str,
    typer.Argument(
        help="A shipped defence (mnist, mnist-thesis, ...) or a folder of weights.", autocompletion=DEFENCES
    ),
]
Target = Annotated[
    str,
    typer.Argument(
        help="A defence, a folder of weights, or either with /classifier behind it; or package.module:factory.",
        autocompletion=TARGETS,
    ),
]


def of_run(folder: str) -> Any:
    """The option --out of a verb whose runs go into such a `folder` where nobody says another."""
    return typer.Option(help=f"Folder for everything that the run makes. [default: {folder}]")


Out = Annotated[Path | None, of_run("out/NAME")]
Seed = Annotated[int | None, typer.Option(min=0, max=MOST, help="Root of all randomness. [default: the recipe's]")]
Watch = Annotated[
    str | None,
    typer.Option(
        metavar="WATCHER",
        help="Show losses and recalled images: a folder for TensorBoard, or package.module:function of a tracker.",
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
AllowHost = Annotated[
    list[str] | None, typer.Option(help="A further name or address by which it may be reached, as behind a proxy.")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="mnist, fashion-mnist, cifar10, cifar100, or a folder of IDX files, CIFAR batches or pictures. "
        "[default: what the defence was trained on]",
        autocompletion=completion.of(lambda: completion.DATA),
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="HxW",
        help="Cut and resize the pictures of a folder, as 224x224. [default: as in training, else as they are]",
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(
        help="Make the pictures of a folder grey (1) or coloured (3). [default: as in training, else as they are]"
    ),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be used; they are listed.")]
Radii = Annotated[
    list[float] | None,
    typer.Option(
        parser=radius,
        metavar="NUMBER",
        help="Radii, on pixels in [0, 1]: --eps 0.15 0.3, or 4/255 8/255. [default: those of the training]",
    ),
]
OfBalls = Annotated[
    Literal["Linf", "L2", "L1"] | None, typer.Option(help="Norm of the balls. [default: that of the training]")
]
Factory = Annotated[
    str | None,
    typer.Option(help="package.module:function that returns the classifier, for a defence of one of your own."),
]
Samples = Annotated[
    int | None, typer.Option(min=1, max=CANDIDATES, help="K, candidates per image. [default: the defence's own]")
]
RejectAt = Annotated[
    float | None,
    typer.Option(
        help="Turn away what N and the recalled images disagree on, or what a plain classifier is unsure of, at this "
        "rate of false alarms, as 0.01."
    ),
]
Chunk = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Images attacked at a time, which bounds the memory and is what processes share; another is another draw "
        "of all chance. [default: 1000 of an evaluation, 500 of an audit, fewer where they are large]",
    ),
]
Stop = Annotated[
    Literal["never", "exact", "confident"], typer.Option(help="When the vote may stop before all samples.")
]


def fitting(size: str | None, channels: int | None, skip_bad: bool) -> dict[str, Any]:
    """How the pictures of a folder are to be made alike, as far as the command line says.

    Raises:
        CarsoError: if the size or the channels are none.
    """
    from carso.types import sides

    if channels not in (None, 1, 3):
        raise CarsoError(f"--channels must be 1 or 3, not {channels}")
    try:
        told = {"size": sides(size) if size else None, "channels": channels, "skip_bad": skip_bad}
    except ValueError as error:
        raise CarsoError(f"--size: {error}") from error
    return {name: value for name, value in told.items() if value}


def spread(arguments: list[str], option: str = "--eps") -> list[str]:
    """Repeat `option` before each of the numbers that follow it: `--eps 1 8/255` becomes `--eps 1 --eps 8/255`."""
    spread_out: list[str] = []
    open_ = False
    for argument in arguments:
        number = _is_number(argument)
        if open_ and number and spread_out[-1] != option:
            spread_out.append(option)
        open_ = argument == option or (open_ and number)
        spread_out.append(argument)
    return spread_out


def _is_number(argument: str) -> bool:
    try:
        return all(map(math.isfinite, map(float, argument.split("/", 1))))
    except ValueError:
        return False
