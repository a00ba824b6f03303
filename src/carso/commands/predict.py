"""`carso predict`: the classes of pictures on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carso.commands.options import DEFENCES, MOST, Device, Factory, RejectAt, Samples, Stop
from carso.commands.shared import defence_of

if TYPE_CHECKING:
    from rich.console import Console

    from carso.evaluation.prediction import Prediction


def predict(
    images: Annotated[
        list[Path],
        typer.Argument(help="Pictures (PNG, JPEG, WebP, BMP, TIFF) of any size; files, not folders: DIR/*.png."),
    ],
    defence: Annotated[
        str, typer.Option(help="A shipped defence or a folder of weights.", autocompletion=DEFENCES)
    ] = "mnist",
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the latents.")] = 0,
    samples: Samples = None,
    stop: Stop = "confident",
    factory: Factory = None,
    reject_at: RejectAt = None,
    device: Device = "auto",
) -> None:
    """Classify pictures, with the share of the vote of each class."""
    from carso.evaluation.prediction import predict

    model = defence_of(defence, factory, samples, device)
    render(predict(model, images, seed=seed, stop=stop, reject_at=reject_at))


def render(predictions: Sequence[Prediction], console: Console | None = None) -> None:
    """Print predictions as a table: the answer, then every class that got a vote."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    table.add_column("image", overflow="fold")
    for name in ("answer", "share", "votes for others", "samples"):
        table.add_column(name, justify="left" if name == "votes for others" else "right")
    for p in predictions:
        ranked = sorted(range(len(p.shares)), key=lambda k: -p.shares[k])
        others = ", ".join(
            f"{p.names[k]} {100 * p.shares[k]:.1f} %" for k in ranked if k != p.label and p.shares[k] > 0
        )
        answer = f"turned away ({p.name})" if p.accepted is False else p.name
        cells = (str(p.path), answer, f"{100 * p.shares[p.label]:.1f} %", others or "none", str(p.samples))
        table.add_row(*map(Text, cells))
    (console or Console()).print(table)
