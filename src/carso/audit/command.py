"""`carso audit`: from names to a printed verdict and an exit status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carso import data as datasets
from carso import factory
from carso.audit.audit import audit
from carso.audit.effort import Effort
from carso.audit.printed import print_audit
from carso.audit.subject import load_subject, load_transfers
from carso.types import Norm
from carso.weights import AUDIT


def run(
    target: str,
    *,
    data: str = "mnist",
    effort: Effort = "standard",
    eps: Sequence[float] = (0.15, 0.3),
    norm: Norm = "Linf",
    images: int | None = None,
    seed: int = 0,
    eot: int | None = None,
    transfer: Sequence[str] = (),
    out: Path,
    classifier: str | None = None,
) -> int:
    """Audit a target by name, print the verdict, and return the exit status: 0, or 3 if a check is raised.

    Args:
        target: as for `load_subject`.
        data: a data set's name or folder; its test split is used.
        effort: how hard to try.
        eps: radii.
        norm: of all budgets.
        images: how many, from the first; by default the effort's.
        seed: of all chance.
        eot: candidates per gradient against a random target; by default the pilot chooses.
        transfer: further classifiers whose adversarial images are tried, as `package.module:factory`.
        out: folder for the books and `audit.json`.
        classifier: the target's own, as `package.module:factory`, where it was trained for one of the user's.
    """
    result = audit(
        load_subject(target, factory.module(classifier) if classifier else None),
        datasets.load(data, "test"),
        effort=effort,
        eps=eps,
        norm=norm,
        n=images,
        seed=seed,
        eot=eot,
        transfer=load_transfers(target, data, transfer),
        name=target,
        out=out,
    )
    print_audit(result)
    print(f"\n{out / AUDIT}")
    return result.exit_code
