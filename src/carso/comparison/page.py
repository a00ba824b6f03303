"""The page of a comparison: one table of all entries, what the audits doubt, and what the literature says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from carso.comparison.results import Audited, Comparison, Line, ProtocolRow
from carso.comparison.study import Published
from carso.evaluation.results import Rate
from carso.progress import duration
from carso.report.page import PAGE, render
from carso.report.wording import ATTACKS, brief, budget
from carso.storage.files import write_text
from carso.types import Norm

SHORTEST = 0.001
"""Seconds below which a time is shown in millionths."""

MARGIN = 2.0
"""Points by which our audit may leave more than the literature's attack did, before a check has to doubt it."""

Standing: TypeAlias = Literal["not higher", "not told apart", "higher, doubted", "higher"]


def write_page(found: Comparison, folder: Path) -> Path:
    """Write `report.html` into the study's folder, and return its path."""
    path = folder / PAGE
    context = {
        "found": found,
        "radii": heads(found),
        "brief": brief,
        "left": left,
        "budget": budget,
        "weakest": weakest,
        "trained": trained,
        "each": each,
        "adaptive": adaptive,
        "compared": compared,
        "checks": checks,
        "margin": f"{MARGIN:g}",
        "on_n": on_n,
        "certified": certified,
    }
    write_text(path, render("rivals.html", context))
    return path


def heads(found: Comparison) -> list[tuple[Norm, float]]:
    """Norm and radius of each audit's column, in order, the unforeseen norm last."""
    own = {(line.audit.norm, each.eps): None for line in found.entries for each in line.audit.budgets}
    other = {(line.unforeseen.norm, each.eps): None for line in found.entries for each in line.unforeseen.budgets}
    return [*own, *other]


def left(line: Line, norm: str, eps: float) -> Rate | None:
    """What the audit of an entry in that norm left at that radius, if it was tried."""
    budgets = [each for audited in _in_norm(line, norm) for each in audited.budgets]
    return next((each.worst_case for each in budgets if each.eps == eps), None)


def raised(line: Line, norm: str) -> list[str]:
    """The checks that the audits of an entry in a norm raise."""
    return [check for audited in _in_norm(line, norm) for check in audited.checks]


def _in_norm(line: Line, norm: str) -> list[Audited]:
    return [audited for audited in (line.audit, line.unforeseen) if audited.norm == norm]


def weakest(line: Line) -> ProtocolRow | None:
    """The attack on N alone, up to the largest radius of the audit, that leaves least; None where all lie beyond it."""
    most = max(each.eps for each in line.audit.budgets)
    rows: Sequence[ProtocolRow] = [row for row in line.figures.protocol if row.norm is not None and row.eps <= most]
    return min(rows, key=lambda row: row.result.accuracy, default=None)


def on_n(line: Line) -> str:
    """What that attack left, its name, and of how many images where the audit is of another number; nothing of none."""
    row = weakest(line)
    if row is None:
        return ""
    images = "" if row.result.total == line.audit.n else f" (n = {row.result.total:,})"
    return f"{brief(row.result)}, {ATTACKS.get(row.attack, row.attack)}{images}"


def certified(line: Line) -> str:
    """What its certificates are worth by radius in L2, of how many images, and how certain; nothing of others."""
    found = line.figures.certified
    if found is None:
        return ""
    rows = ", ".join(f"{brief(row.result)} at {row.eps:.2f}" for row in found.rows)
    n = found.rows[0].result.total
    return f"{rows} (n = {n:,}; {found.samples:,} votes of each, wrong with probability {found.alpha:g})"


def checks(line: Line) -> str:
    """What its audits doubt, in words, and of how many checks; of the unforeseen norm what the first does not doubt."""
    own, made = line.audit.checks, line.audit.made
    other = [check for check in line.unforeseen.checks if check not in own]
    of, also = f" of {made}" if made else "", f"; in {line.unforeseen.norm} also {', '.join(other)}" if other else ""
    return (", ".join(own) or "none") + of + also


def trained(line: Line) -> str:
    """How long its training took, where that is known."""
    seconds = line.figures.trained
    return "" if seconds is None else duration(seconds) if seconds else "none"


def adaptive(published: Published) -> str:
    """What an adaptive attack left in the literature, where that can be set beside ours."""
    return "" if published.left is None else f"{published.left:g} %"


def standing(line: Line, published: Published) -> Standing | None:
    """Whether ours is above the literature's by more than `MARGIN`, and doubted; None where either is missing.

    It is "not higher" where its whole interval says so, and "not told apart" where its accuracy alone does. What lies
    above needs a doubt however wide its interval is: few images excuse nothing.
    """
    place = published.beside
    ours = None if place is None else left(line, place.norm, place.eps)
    if place is None or ours is None or published.left is None:
        return None
    if ours.ci95[1] <= published.left + MARGIN:
        return "not higher"
    if ours.accuracy <= published.left + MARGIN:
        return "not told apart"
    return "higher, doubted" if raised(line, place.norm) else "higher"


def compared(line: Line, published: Published) -> str:
    """Ours at the ball where it stands beside the literature's figure, and how, in words."""
    found, place = standing(line, published), published.beside
    ours = None if found is None or place is None else left(line, place.norm, place.eps)
    if ours is None or place is None:
        return ""
    doubts = f" ({', '.join(raised(line, place.norm))})" if found == "higher, doubted" else ""
    return f"{brief(ours)} at {budget(place.norm, place.eps)}: {found}{doubts}"


def each(line: Line) -> str:
    """Seconds of a prediction, in a unit that suits them, and as a multiple of N's."""
    seconds = line.figures.seconds
    shown = f"{1e6 * seconds:,.0f} µs" if seconds < SHORTEST else f"{1e3 * seconds:,.1f} ms"
    return f"{shown} ({line.figures.of_n:,.0f} N)"
