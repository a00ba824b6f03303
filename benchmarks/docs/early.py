"""Audits of before an attack or a check joined that they would have today."""

from __future__ import annotations

from collections.abc import Iterable

from carso.audit.checks import DOUBTS
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


def raised(audit: Audit) -> str:
    """The checks that doubt an audit, and of how many where it made fewer than are made today."""
    names, made = ", ".join(check.name for check in audit.raised) or "none", len(audit.checks)
    return names if not _unmade(audit) else f"{names} of {made}"


def fewer(audits: Iterable[Audit]) -> str:
    """Which checks the audits that made fewer did without; empty where none made fewer."""
    found = {(len(audit.checks), tuple(names)) for audit in audits if (names := _unmade(audit))}
    said = (f"of {made}, without {_listed(names)}" for made, names in sorted(found, reverse=True))
    return f"{'; '.join(said)}; these came later, and today there are {len(DOUBTS)}" if found else ""


def note(audits: Iterable[Audit]) -> str:
    """What the mark and the numbers of checks say, in lines; empty where there is nothing to say."""
    found = list(audits)
    attacks, checks = before(found), fewer(found)
    lines = [f"{MARK} {attacks}." if attacks else "", f"Checks {checks}." if checks else ""]
    return "\n".join(filter(None, lines))


def _unmade(audit: Audit) -> list[str]:
    """The checks of today that it did not make."""
    made = {check.name for check in audit.checks}
    return [doubt.name for doubt in DOUBTS if doubt.name not in made]


def _listed(names: Iterable[str]) -> str:
    """Names in code, the last after "and"."""
    *most, last = (f"`{name}`" for name in names)
    return f"{', '.join(most)} and {last}" if most else last


def _lacking(budget: BudgetResult) -> list[str]:
    """Attacks from neighbours are made on whatever has a gradient, those around the image where it misleads."""
    due = {
        "pgd-annealed-neighbours": budget.white_box is not None,
        "pgd-annealed-around": budget.diagnostics.misled > MISLED,
    }
    return [name for name, wanted in due.items() if wanted and not budget.find(name)]
