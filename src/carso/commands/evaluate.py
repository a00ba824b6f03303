"""`carso evaluate`: the table of any saved defence, the thesis's where the work is the thesis's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carso.commands.options import (
    MOST,
    Channels,
    Chunk,
    Data,
    Device,
    Factory,
    OfBalls,
    Radii,
    RejectAt,
    Samples,
    Size,
    SkipBad,
    Stop,
    Target,
    fitting,
    of_run,
)
from carso.commands.shared import Subject, claimed, command_line, rejecting, say, slug_of, subject_of, table_of

if TYPE_CHECKING:
    from carso.evaluation import Settings
    from carso.evaluation.models import Models
    from carso.types import Norm

USUAL = 1000
"""Images that are evaluated where nobody says how many."""


def evaluate(
    target: Target = "mnist",
    out: Annotated[Path | None, of_run("out/evaluate-NAME[-reject-at-RATE][-corruptions]")] = None,
    eps: Radii = None,
    norm: OfBalls = None,
    data: Data = None,
    split: Annotated[Literal["validation", "test"], typer.Option(help="validation is for choices.")] = "test",
    images: Annotated[
        int | None, typer.Option(min=1, help="How many images, from the first. [default: 1000, or all there are]")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of the attacks and the latents.")] = 0,
    samples: Samples = None,
    stop: Stop = "confident",
    factory: Factory = None,
    size: Size = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    reject_at: RejectAt = None,
    chunk: Chunk = None,
    corruptions: Annotated[
        bool, typer.Option("--corruptions", help="Noise, blur, fog, warps and worst poses in place of attacks.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Evaluate a defence or a classifier by a table of attacks.

    At the radii it was trained for; leaves results.json, records and report.
    """
    from carso.errors import CarsoError
    from carso.evaluation import Settings

    if corruptions and (eps or norm):
        raise CarsoError("--corruptions have severities; leave out --eps and --norm")
    settings = Settings(n=images, seed=seed, samples=samples, stop=stop, reject_at=reject_at, chunk=chunk)
    fitted = fitting(size, channels, skip_bad)
    name = f"evaluate-{slug_of(target)}{rejecting(reject_at)}{'-corruptions' * corruptions}"
    folder = out or Path("out") / name
    with claimed(folder):
        subject = subject_of(target, factory, samples, device, data, fitted)
        page = run(subject, folder, split, settings, tuple(eps or ()), norm, corruptions, command_line())
    say(f"report: {page}")


def run(
    subject: Subject,
    out: Path,
    split: Literal["validation", "test"],
    settings: Settings,
    radii: tuple[float, ...] = (),
    norm: Norm | None = None,
    corruptions: bool = False,
    command: str = "",
) -> Path:
    """The table of a defence or a classifier, written to `out`; returns the report's path.

    Radii and norm are by default those of its training. With `corruptions` these take the place of attacks.
    """
    from carso.defence import CARSO
    from carso.evaluation.protocol import CORRUPTED, Protocol
    from carso.evaluation.radii import check_radii, norm_of, protocol_of
    from carso.evaluation.results import FILE
    from carso.storage.files import check_writable
    from carso.storage.weights import architecture_of

    source, origin = subject.source, subject.origin
    check_radii(radii, norm or norm_of(origin))
    subject = subject.rejecting(settings.reject_at)
    images = subject.load(split)
    check_radii(radii, norm or norm_of(origin), images.shape)
    network = subject.model.classifier if isinstance(subject.model, CARSO) else subject.model
    protocol = Protocol(CORRUPTED, (), ()) if corruptions else protocol_of(origin, subject.data, radii, norm)
    if architecture_of(network) != "mlp":
        protocol = protocol.unpublished()
    check_writable(out / FILE)
    return table_of(
        columns_of(subject),
        images,
        subject.classifier,
        protocol,
        settings,
        out,
        usual=USUAL,
        recipe=f"{source} ({split})" if split != "test" else source,
        command=command,
        adversarial=origin.against_attacks,
    )


def columns_of(subject: Subject) -> Models:
    """Of a defence its undefended classifier, N and itself; a classifier stands alone."""
    from carso.audit.loading import column_of, undefended_of
    from carso.defence import CARSO
    from carso.evaluation.models import device_of, models_of

    if not isinstance(subject.model, CARSO):
        return {column_of(subject.source): subject.model}
    undefended = undefended_of(subject.source, subject.own)
    return models_of(subject.model, None if undefended is None else undefended.to(device_of(subject.model)))
