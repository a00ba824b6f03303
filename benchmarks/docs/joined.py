"""Audits of one subject that were run apart, each at radii of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carso.audit import Audit, read_audit

RESULTS = Path(__file__).parents[1] / "results"


def joined(folders: str | Sequence[str]) -> Audit:
    """The audit in a folder of benchmarks/results; of several, one with the radii and the raised checks of all.

    Raises:
        ValueError: if they are not of the same weights and images, tried as hard.
    """
    first, *others = (read_audit(RESULTS / folder) for folder in ([folders] if isinstance(folders, str) else folders))
    for other in others:
        if _of(other) != _of(first):
            raise ValueError(f"audits of different things: {_of(first)} and {_of(other)}")
    budgets = sorted((budget for each in (first, *others) for budget in each.budgets), key=lambda each: each.eps)
    names = {check.name for check in first.raised}
    further = [check for other in others for check in other.raised if check.name not in names]
    return first.model_copy(update={"budgets": budgets, "checks": [*first.checks, *further]})


def _of(audit: Audit) -> tuple[object, ...]:
    return audit.weights, audit.dataset, audit.n, audit.seed, audit.effort, audit.budgets[0].clean.correct
