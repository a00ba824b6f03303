"""`carso predict`: the classes of pictures on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carso.commands.options import MNIST, MOST, TARGETS, Device, Factory, RejectAt, Samples, Stop
from carso.commands.shared import calibrated, classifier_of, images_of, moved, say_which, voting_by
from carso.errors import CarsoError

if TYPE_CHECKING:
    from rich.console import Console

    from carso.data import Dataset
    from carso.evaluation.prediction import Prediction
    from carso.storage.headers import Origin


def predict(
    images: Annotated[
        list[Path],
        typer.Argument(help="Pictures (PNG, JPEG, WebP, BMP, TIFF) of any size; files, not folders: DIR/*.png."),
    ],
    defence: Annotated[
        str,
        typer.Option(
            help="A shipped defence or a folder of weights, or either with /classifier behind it.",
            autocompletion=TARGETS,
        ),
    ] = "mnist",
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the latents.")] = 0,
    samples: Samples = None,
    stop: Stop = "confident",
    factory: Factory = None,
    reject_at: RejectAt = None,
    device: Device = "auto",
) -> None:
    """Classify pictures, with the share of the vote of each class."""
    from carso.audit.loading import column_of, load_target, origin_of
    from carso.data.labelled import names_of
    from carso.defence import CARSO
    from carso.evaluation.prediction import classified, predict

    say_which(defence)
    model = load_target(defence, classifier_of(factory))
    if not isinstance(model, CARSO) and column_of(defence) == "classifier":
        raise CarsoError(f"carso predict asks a saved defence or a classifier of one; {defence} is neither")
    model = moved(voting_by(samples, model), device)
    own = origin_of(defence)
    name, fitted = images_of(own, own.data or MNIST, {})
    if reject_at is not None:
        model = calibrated(model, partial(_held_out, own), reject_at)
    if isinstance(model, CARSO):
        render(predict(model, images, seed=seed, stop=stop, reject_at=reject_at))
    else:
        shape, names = _images_and_classes(defence, name, fitted)
        render(classified(model, images, shape, names_of(model) or names, name, reject_at=reject_at))


def _held_out(own: Origin) -> Dataset:
    """The clean images by which thresholds are set: those of the training."""
    from carso import data

    name, fitted = images_of(own, None, {})
    return data.load(name, "validation", **fitted)


def _images_and_classes(
    source: str, name: str, fitted: Mapping[str, Any]
) -> tuple[tuple[int, int, int], Sequence[str] | None]:
    """The shape of a plain classifier's images and what its classes are called: as in its defence, or else its data."""
    from carso import data
    from carso.audit.loading import whole_of
    from carso.storage import weights

    if (whole := whole_of(source)) is None:
        test = data.load(name, "test", **fitted)
        return test.shape, test.classes
    told = weights.about(weights.find(whole) / weights.PURIFIER, "purifier")
    channels, height, width = told["shape"]
    return (channels, height, width), told.get("classes")


def render(predictions: Sequence[Prediction], console: Console | None = None) -> None:
    """Print predictions as a table: the answer, then every class that got a vote, or some probability."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    table.add_column("image", overflow="fold")
    voted = any(p.samples for p in predictions)
    others, least = ("votes for others", 0.0) if voted else ("probability of others", 0.0005)
    for name in ("answer", "share" if voted else "probability", others, *["samples"] * voted):
        table.add_column(name, justify="left" if name == others else "right")
    for p in predictions:
        ranked = sorted(range(len(p.shares)), key=lambda k: -p.shares[k])
        rest = ", ".join(
            f"{p.names[k]} {100 * p.shares[k]:.1f} %" for k in ranked if k != p.label and p.shares[k] > least
        )
        answer = f"turned away ({p.name})" if p.accepted is False else p.name
        cells = (str(p.path), answer, f"{100 * p.shares[p.label]:.1f} %", rest or "none", *[str(p.samples)] * voted)
        table.add_row(*map(Text, cells))
    (console or Console()).print(table)
