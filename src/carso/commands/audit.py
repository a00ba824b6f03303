"""`carso audit`: from names to a printed verdict and an exit status."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from carso.commands.options import MOST, Data, Factory, Out, Samples, radius
from carso.commands.shared import claimed, classifier_of, voting_by


def audit(
    target: Annotated[str, typer.Argument(help="A defence, a folder of weights, or package.module:factory.")] = "mnist",
    effort: Annotated[Literal["quick", "standard", "full"], typer.Option(help="How hard to try.")] = "standard",
    eps: Annotated[
        list[float], typer.Option(parser=radius, metavar="NUMBER", help="Radii: --eps 0.15 0.3, or 4/255 8/255.")
    ] = [0.15, 0.3],  # noqa: B006
    norm: Annotated[Literal["Linf", "L2"], typer.Option(help="Norm of the balls.")] = "Linf",
    data: Data = "mnist",
    images: Annotated[int | None, typer.Option(min=1, help="How many. [default: the effort's]")] = None,
    seed: Annotated[int, typer.Option(min=0, max=MOST, help="Of all chance.")] = 0,
    samples: Samples = None,
    eot: Annotated[int | None, typer.Option(min=1, help="Candidates per gradient. [default: found by trial]")] = None,
    transfer: Annotated[list[str] | None, typer.Option(help="Further classifiers, package.module:factory.")] = None,
    out: Out = None,
    factory: Factory = None,
) -> None:
    """Attack a whole defence as hard as we can; exit status 3 if a check doubts the figures."""
    from carso import data as datasets
    from carso.audit import audit, load_target
    from carso.audit.loading import load_transfers
    from carso.report.terminal import print_audit
    from carso.storage.weights import AUDIT

    folder = out or Path("out") / f"audit-{target.replace('/', '-').replace(':', '-')}"
    with claimed(folder):
        model, test = voting_by(samples, load_target(target, classifier_of(factory))), datasets.load(data, "test")
        others = load_transfers(target, data, transfer or ())
        found = audit(
            model,
            test,
            effort=effort,
            eps=eps,
            norm=norm,
            n=images,
            seed=seed,
            eot=eot,
            transfer=others,
            name=target,
            out=folder,
        )
        print_audit(found)
        print(f"\n{folder / AUDIT}")
    raise typer.Exit(found.exit_code)
