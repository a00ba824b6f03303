"""`carso audit`: from names to a printed verdict and an exit status."""

from __future__ import annotations

from collections.abc import Sequence
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
    Target,
    fitting,
    of_run,
)
from carso.commands.shared import Subject, claimed, rejecting, slug_of, subject_of

if TYPE_CHECKING:
    from carso.types import Classifier


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
    from carso.audit import audit
    from carso.audit.audit import needed
    from carso.evaluation.labelling import labelled
    from carso.evaluation.radii import norm_of, radii_of
    from carso.report.terminal import print_audit
    from carso.storage.folder import AUDIT

    folder = out or Path("out") / f"audit-{slug_of(target)}{rejecting(reject_at)}"
    fitted = fitting(size, channels, skip_bad)
    with claimed(folder):
        subject = subject_of(target, factory, samples, device, data, fitted)
        test = subject.load("test")
        test = labelled(test, subject.classifier, needed(test.shape, effort, images))
        subject = subject.rejecting(reject_at)
        found = audit(
            subject.model,
            test,
            effort=effort,
            eps=eps or radii_of(subject.origin, subject.data, norm),
            norm=norm or norm_of(subject.origin),
            n=images,
            seed=seed,
            eot=eot,
            transfer=transfers_of(subject, transfer or ()),
            name=target,
            chunk=chunk,
            out=folder,
            reject_at=reject_at,
        )
        print_audit(found)
        print(f"\n{folder / AUDIT}")
    raise typer.Exit(found.exit_code)


def transfers_of(subject: Subject, factories: Sequence[str]) -> dict[str, Classifier]:
    """The classifiers of `carso.audit.loading.load_transfers`, where the model is."""
    from torch import nn

    from carso.audit.loading import load_transfers
    from carso.evaluation.models import device_of

    place = device_of(subject.model)
    others = load_transfers(subject.source, subject.data, factories, subject.own)
    return {name: other.to(place) if isinstance(other, nn.Module) else other for name, other in others.items()}
