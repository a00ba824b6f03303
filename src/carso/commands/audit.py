"""`carso audit`: from names to a printed verdict and an exit status."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Literal

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
    Target,
    fitting,
    of_run,
)
from carso.commands.shared import (
    calibrated,
    claimed,
    classifier_of,
    images_of,
    moved,
    rejecting,
    say_which,
    slug_of,
    voting_by,
)


def audit(
    target: Target = "mnist",
    effort: Annotated[Literal["quick", "standard", "full"], typer.Option(help="How hard to try.")] = "standard",
    eps: Radii = None,
    norm: OfBalls = None,
    data: Data = None,
    images: Annotated[int | None, typer.Option(min=1, help="How many. [default: the effort's]")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of all chance.")] = 0,
    samples: Samples = None,
    eot: Annotated[int | None, typer.Option(min=1, help="Candidates per gradient. [default: found by trial]")] = None,
    transfer: Annotated[list[str] | None, typer.Option(help="Further classifiers, package.module:factory.")] = None,
    out: Annotated[Path | None, of_run("out/audit-NAME[-reject-at-RATE]")] = None,
    factory: Factory = None,
    size: Size = None,
    channels: Channels = None,
    skip_bad: SkipBad = False,
    reject_at: RejectAt = None,
    chunk: Chunk = None,
    device: Device = "auto",
) -> None:
    """Attack a whole defence as hard as we can.

    Exit status 3 if a check doubts the figures.
    """
    from torch import nn

    from carso import data as datasets
    from carso.audit import audit, load_target
    from carso.audit.audit import needed
    from carso.audit.loading import load_transfers, origin_of
    from carso.evaluation.labelling import labelled
    from carso.evaluation.models import device_of
    from carso.evaluation.radii import norm_of, radii_of
    from carso.report.terminal import print_audit
    from carso.storage.weights import AUDIT

    say_which(target)
    folder = out or Path("out") / f"audit-{slug_of(target)}{rejecting(reject_at)}"
    own = origin_of(target)
    data, fitted = images_of(own, data, fitting(size, channels, skip_bad))
    with claimed(folder):
        classifier = classifier_of(factory)
        model = moved(voting_by(samples, load_target(target, classifier)), device)
        test = datasets.load(data, "test", **fitted)
        test = labelled(test, getattr(model, "classifier", model), needed(test.shape, effort, images))
        if reject_at is not None:
            model = calibrated(model, partial(datasets.load, data, "validation", **fitted), reject_at)
        others = load_transfers(target, data, transfer or (), classifier)
        place = device_of(model)
        others = {name: other.to(place) if isinstance(other, nn.Module) else other for name, other in others.items()}
        found = audit(
            model,
            test,
            effort=effort,
            eps=eps or radii_of(own, data, norm),
            norm=norm or norm_of(own),
            n=images,
            seed=seed,
            eot=eot,
            transfer=others,
            name=target,
            chunk=chunk,
            out=folder,
            reject_at=reject_at,
        )
        print_audit(found)
        print(f"\n{folder / AUDIT}")
    raise typer.Exit(found.exit_code)
