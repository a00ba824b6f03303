"""Audits of one subject that were run apart, each at radii of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carso.audit import Audit, read_audit

RESULTS = Path(__file__).parents[1] / "results"


def joined(folders: str | Sequence[str]) -> Audit:
    """The audit in a folder of benchmarks/results; of several, one with the radii of all, and the checks that all made.

    Of a check that several raise, the first that does.

    Raises:
        ValueError: if they are not of the same weights and images, tried as hard.
    """
    audits = [read_audit(RESULTS / folder) for folder in ([folders] if isinstance(folders, str) else folders)]
    first, *others = audits
    for other in others:
        if _of(other) != _of(first):
            raise ValueError(f"audits of different things: {_of(first)} and {_of(other)}")
    budgets = sorted((budget for each in audits for budget in each.budgets), key=lambda each: each.eps)
    made = set.intersection(*({check.name for check in each.checks} for each in audits))
    common = {check.name: check for check in first.checks if check.name in made}
    raised = {check.name: check for each in reversed(audits) for check in each.raised}
    return first.model_copy(update={"budgets": budgets, "checks": [*(common | raised).values()]})


def _of(audit: Audit) -> tuple[object, ...]:
    return audit.weights, audit.dataset, audit.n, audit.seed, audit.effort, audit.budgets[0].clean.correct
