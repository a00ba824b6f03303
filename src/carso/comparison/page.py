"""The page of a comparison: one table of all entries, what the audits doubt, and what the literature says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carso.comparison.results import Comparison, Line, ProtocolRow
from carso.comparison.study import Published
from carso.evaluation.results import Rate
from carso.progress import duration
from carso.report.page import PAGE, render
from carso.report.wording import ATTACKS, brief, budget
from carso.storage.files import write_text

SHORTEST = 0.001
"""Seconds below which a time is shown in millionths."""


def write_page(found: Comparison, folder: Path) -> Path:
    """Write `report.html` into the study's folder, and return its path."""
    path = folder / PAGE
    context = {
        "found": found,
        "radii": heads(found),
        "brief": brief,
        "left": left,
        "budget": budget,
        "attacks": ATTACKS,
        "weakest": weakest,
        "trained": trained,
        "each": each,
        "adaptive": adaptive,
        "checks": checks,
    }
    write_text(path, render("rivals.html", context))
    return path


def heads(found: Comparison) -> list[tuple[str, float]]:
    """Norm and radius of each audit's column, in order, the unforeseen norm last."""
    own = {(line.audit.norm, each.eps): None for line in found.entries for each in line.audit.budgets}
    other = {(line.unforeseen.norm, each.eps): None for line in found.entries for each in line.unforeseen.budgets}
    return [*own, *other]


def left(line: Line, norm: str, eps: float) -> Rate | None:
    """What the audit of an entry in that norm left at that radius, if it was tried."""
    budgets = [each for audited in (line.audit, line.unforeseen) if audited.norm == norm for each in audited.budgets]
    return next((each.worst_case for each in budgets if each.eps == eps), None)


def weakest(line: Line) -> ProtocolRow:
    """The attack on N alone, up to the largest radius of the audit, that leaves least."""
    most = max(each.eps for each in line.audit.budgets)
    rows: Sequence[ProtocolRow] = [row for row in line.figures.protocol if row.norm is not None and row.eps <= most]
    return min(rows, key=lambda row: row.result.accuracy)


def checks(line: Line) -> str:
    """What its audits doubt, in words; of the unforeseen norm what the first does not doubt already."""
    own = line.audit.checks
    other = [check for check in line.unforeseen.checks if check not in own]
    return (", ".join(own) or "none") + (f"; in {line.unforeseen.norm} also {', '.join(other)}" if other else "")


def trained(line: Line) -> str:
    """How long its training took, where that is known."""
    seconds = line.figures.trained
    return "" if seconds is None else duration(seconds) if seconds else "none"


def adaptive(published: Published) -> str:
    """What an adaptive attack left in the literature, where that can be set beside ours."""
    return "" if published.left is None else f"{published.left:g} %"


def each(line: Line) -> str:
    """Seconds of a prediction, in a unit that suits them, and as a multiple of N's."""
    seconds = line.figures.seconds
    shown = f"{1e6 * seconds:,.0f} µs" if seconds < SHORTEST else f"{1e3 * seconds:,.1f} ms"
    return f"{shown} ({line.figures.of_n:,.0f} N)"
