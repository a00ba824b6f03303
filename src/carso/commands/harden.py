"""`carso harden`: one's own classifier and images made into a defence, measured and audited, within a time."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from carso.commands.options import MOST, Channels, Chunk, Device, Size, SkipBad, Watch, fitting, radius
from carso.commands.shared import claimed, say


def harden(
    classifier: Annotated[str, typer.Argument(help="package.module:function that returns the trained classifier.")],
    data: Annotated[str, typer.Option(help="A data set's name, or a folder of images, with labels or without.")],
    eps: Annotated[
        list[float],
        typer.Option(parser=radius, metavar="NUMBER", help="Radii, on pixels in [0, 1]: --eps 4/255 8/255."),
    ],
    norm: Annotated[Literal["Linf", "L2", "L1"], typer.Option(help="Norm of the balls.")] = "Linf",
    minutes: Annotated[float, typer.Option(min=0.01, help="How long all of it may take.")] = 30.0,
    out: Annotated[Path | None, typer.Option(help="Folder for everything. [default: out/harden]")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Root of all randomness.")] = 0,
    size: Size = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    batch: Annotated[
        int | None,
        typer.Option(min=2, help="Images of a batch in training. [default: 128, fewer where they are large]"),
    ] = None,
    chunk: Chunk = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A layer that the purifier reads, once for each: a module of the classifier, input or output. "
            "[default: proposed]",
        ),
    ] = None,
    device: Device = "auto",
    watch: Watch = None,
) -> None:
    """Harden a classifier; evaluate, audit and export the defence.

    A recipe is proposed, and a purifier trained; exit status 3 on a doubt.
    """
    from carso.hardening import Hardening, Request, conclusion
    from carso.report.publish import publish
    from carso.training.device import choose_device
    from carso.training.watching import watcher_of

    folder = out or Path("out") / "harden"
    with claimed(folder):
        further: dict[str, Any] = {"batch": batch, "layers": tuple(layers or ()) or None}
        further |= fitting(size, channels, skip_bad)
        request = Request.of(classifier, data, eps, norm, minutes, seed, **further)
        hardening = Hardening(request, folder, choose_device(device), watcher_of(watch), chunk)
        plan = hardening.plan()
        typer.echo("\n".join(plan.lines))
        found = hardening.carry_out(plan)
        page = publish(found.records, folder)
        typer.echo("\n".join(("", str(found.choice), *conclusion(found.records, found.audits, found.left))))
        say(f"report: {page}")
        say(f"ONNX: {found.onnx}")
    raise typer.Exit(found.exit_code)
