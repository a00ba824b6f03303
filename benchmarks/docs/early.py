"""Audits of before an attack joined that they would run today."""

from __future__ import annotations

from collections.abc import Iterable

from carso.audit.diagnostics import MISLED
from carso.audit.results import Audit, BudgetResult

MARK = "†"


def lacking(audit: Audit) -> str | None:
    """The first attack that it would run today and did not."""
    return next((name for budget in audit.budgets for name in _lacking(budget)), None)


def before(audits: Iterable[Audit]) -> str:
    """Before what the audits that lack an attack ran; empty where none does."""
    names = sorted({name for audit in audits if (name := lacking(audit))})
    return f"before {' or '.join(f'`{name}`' for name in names)} was one of the attacks" if names else ""


def note(audits: Iterable[Audit]) -> str:
    """What the mark says; empty where none is marked."""
    said = before(audits)
    return f"{MARK} {said}." if said else ""


def _lacking(budget: BudgetResult) -> list[str]:
    """Attacks from neighbours are made on whatever has a gradient, those around the image where it misleads."""
    due = {
        "pgd-annealed-neighbours": budget.white_box is not None,
        "pgd-annealed-around": budget.diagnostics.misled > MISLED,
    }
    return [name for name, wanted in due.items() if wanted and not budget.find(name)]
