"""`carso predict`: the classes of pictures on disk."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carso.commands.options import DEFENCES, MOST, Device, Factory, RejectAt, Samples, Stop
from carso.commands.shared import calibrated, classifier_of, images_of, moved, say_which, voting_by

if TYPE_CHECKING:
    from rich.console import Console
    from torch import nn

    from carso.evaluation.prediction import Prediction


def predict(
    images: Annotated[
        list[Path],
        typer.Argument(help="Pictures (PNG, JPEG, WebP, BMP, TIFF) of any size; files, not folders: DIR/*.png."),
    ],
    defence: Annotated[
        str,
        typer.Option(
            help="A shipped defence or a folder of weights, or either with /classifier behind it.",
            autocompletion=DEFENCES,
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
    from carso.audit.loading import load_target
    from carso.defence import CARSO
    from carso.evaluation.prediction import predict

    say_which(defence)
    model = moved(voting_by(samples, load_target(defence, classifier_of(factory))), device)
    if isinstance(model, CARSO):
        render(predict(model, images, seed=seed, stop=stop, reject_at=reject_at))
    else:
        render(_classified(defence, model, images, reject_at))


def _classified(source: str, model: nn.Module, paths: Sequence[Path], reject_at: float | None) -> list[Prediction]:
    """Of a plain classifier, whose images and classes are those of its defence, or else of its training."""
    from carso import data
    from carso.audit.loading import origin_of, whole_of
    from carso.evaluation.prediction import classified
    from carso.storage import weights

    name, fitted = images_of(origin_of(source), None, {})
    if (whole := whole_of(source)) is not None:
        told = weights.about(weights.find(whole) / weights.PURIFIER, "purifier")
        shape, names = tuple(told["shape"]), told.get("classes")
    else:
        test = data.load(name, "test", **fitted)
        shape, names = test.shape, test.classes
    if reject_at is not None:
        model = calibrated(model, partial(data.load, name, "validation", **fitted), reject_at)
    return classified(model, paths, shape, names, name, reject_at=reject_at)


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
