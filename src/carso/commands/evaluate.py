"""`carso evaluate`: the table of any saved defence, the thesis's where the work is the thesis's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

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
from carso.commands.shared import (
    calibrated,
    claimed,
    classifier_of,
    command_line,
    images_of,
    moved,
    rejecting,
    say,
    say_which,
    slug_of,
    voting_by,
)
from carso.processes.group import by_first

if TYPE_CHECKING:
    from torch import nn

    from carso.evaluation import Settings
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
    from carso.evaluation import Settings

    settings = Settings(n=images, seed=seed, samples=samples, stop=stop, reject_at=reject_at, chunk=chunk)
    name = f"evaluate-{slug_of(target)}{rejecting(reject_at)}{'-corruptions' * corruptions}"
    folder = out or Path("out") / name
    with claimed(folder):
        page = run(
            target,
            folder,
            data,
            split,
            settings,
            command=command_line(),
            classifier=classifier_of(factory),
            radii=tuple(eps or ()),
            norm=norm,
            fitted=fitting(size, channels, skip_bad),
            corruptions=corruptions,
            device=device,
        )
    say(f"report: {page}")


def run(
    source: str,
    out: Path,
    data_name: str | None,
    split: Literal["validation", "test"],
    settings: Settings,
    *,
    command: str = "",
    classifier: nn.Module | None = None,
    radii: tuple[float, ...] = (),
    norm: Norm | None = None,
    fitted: Mapping[str, Any] | None = None,
    corruptions: bool = False,
    device: str = "cpu",
) -> Path:
    """The table of a defence or a classifier, as for `carso audit`, written to `out`; returns the report's path.

    `classifier` is N, where the defence was trained for one of the user's own. Data, how pictures are `fitted`, radii
    and norm are by default those of its training. With `corruptions` these take the place of attacks. All models
    are moved to the `device`.
    """
    from carso import data
    from carso.audit.loading import column_of, load_target, origin_of, undefended_of
    from carso.defence import CARSO
    from carso.errors import CarsoError
    from carso.evaluation import evaluate
    from carso.evaluation.labelling import labelled
    from carso.evaluation.models import models_of
    from carso.evaluation.protocol import CORRUPTED, Protocol
    from carso.evaluation.radii import check_radii, norm_of, protocol_of
    from carso.evaluation.results import FILE
    from carso.report.publish import publish
    from carso.storage.files import check_writable
    from carso.storage.weights import architecture_of

    if corruptions and (radii or norm):
        raise CarsoError("--corruptions have severities; leave out --eps and --norm")
    say_which(source)
    target = moved(voting_by(settings.samples, load_target(source, classifier)), device)
    origin = origin_of(source)
    whole = isinstance(target, CARSO)
    check_radii(radii, norm or norm_of(origin))
    data_name, fitted = images_of(origin, data_name, fitted or {})
    if settings.reject_at is not None:
        target = calibrated(target, partial(data.load, data_name, "validation", **fitted), settings.reject_at)
    dataset = data.load(data_name, split, **fitted)
    check_radii(radii, norm or norm_of(origin), dataset.shape)
    dataset = labelled(dataset, target.classifier if whole else target, settings.n or USUAL)
    protocol = Protocol(CORRUPTED, (), ()) if corruptions else protocol_of(origin, data_name, radii, norm)
    if architecture_of(target.classifier if whole else target) != "mlp":
        protocol = protocol.unpublished()
    settings = settings if settings.n else replace(settings, n=min(USUAL, len(dataset)))
    check_writable(out / FILE)
    models = {column_of(source): target}
    if whole:
        undefended = undefended_of(source, classifier)
        models = models_of(target, None if undefended is None else moved(undefended, device))
    name = f"{source} ({split})" if split != "test" else source
    records = evaluate(
        models,
        dataset,
        settings=settings,
        recipe=name,
        command=command,
        directory=out,
        adversarial=origin.against_attacks,
        **vars(protocol),
    )
    return by_first(partial(publish, records, out))
