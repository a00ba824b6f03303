"""The verdict on a statement, from intervals alone.

A claim compares two accuracies on each of its rows, by their 95 % intervals [l, h] and [l', h'] and by that of their
difference, [d, e], or one with a range:

    above       holds if l > h', fails if h < l'               below is the same with the sides exchanged
    not-above   fails if l > h', else holds if e < `MARGIN`    not-below likewise
    within      holds if [l, h] lies inside the range, fails if it does not meet it

Where neither is so, the comparison is open: that intervals meet shows no difference, and no equality either. Variants
answer the same images, but their figures here are counts, of which no pairs can be made; the intervals are those of
independent images, and leave more open than pairs would. Of a claim
about some rows, one that holds is enough, and it fails only if all do. A statement is

    refuted        if a comparison fails
    confirmed      if none fails and at least half of them hold
    not testable   otherwise, or where figures are missing, or where it implies no comparison
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from carso.ablations.study import BASE, Claim, Reference, Relation, Rows, Statement
from carso.evaluation.interval import apart
from carso.evaluation.results import Rate, ResultRow

Standing: TypeAlias = Literal["holds", "fails", "open"]
Verdict: TypeAlias = Literal["confirmed", "refuted", "not testable"]
Interval: TypeAlias = tuple[float, float]
Figures: TypeAlias = Mapping[str, Sequence[ResultRow]]
"""The rows of every variant, by its name."""

MARGIN = 3.0
"""Points below which a difference is small."""


def standing(relation: Relation, own: Rate, other: Rate) -> Standing:
    """Whether an accuracy is related to another as is said; `relation` is any but "within"."""
    if relation in ("below", "not-below"):
        return standing("above" if relation == "below" else "not-above", other, own)
    side = apart(own.ci95, other.ci95)
    if relation == "above":
        return "holds" if side > 0 else "fails" if side < 0 else "open"
    if side > 0:
        return "fails"
    return "holds" if own.above(other)[1] < MARGIN else "open"


def within(own: Rate, range: Interval) -> Standing:
    """Whether the interval of an accuracy lies inside a range."""
    if apart(own.ci95, range):
        return "fails"
    return "holds" if range[0] <= own.ci95[0] and own.ci95[1] <= range[1] else "open"


def standings(claim: Claim, figures: Figures) -> list[Standing]:
    """How the comparisons of a claim stand; none of those whose figures are missing."""
    found = [_of_variant(claim, name, figures) for name in claim.of]
    if not claim.some:
        return [each for of_rows in found for each in of_rows]
    return [_any(of_rows) for of_rows in found if of_rows]


def verdict(statement: Statement, figures: Figures) -> tuple[Verdict, Counter[Standing]]:
    """The verdict on a statement, and how many comparisons hold, fail and are open."""
    counted = Counter(each for claim in statement.claims for each in standings(claim, figures))
    if not _complete(statement, figures):
        return "not testable", counted
    if counted["fails"]:
        return "refuted", counted
    return ("confirmed" if 2 * counted["holds"] >= counted.total() > 0 else "not testable"), counted


def _complete(statement: Statement, figures: Figures) -> bool:
    """Whether every variant that is compared is there, with all the rows of the base."""
    compared = {name for claim in statement.claims for name in (*claim.of, claim.than.variant)}
    wanted = {_key(row) for row in figures.get(BASE, ())}
    return all(name in figures and wanted <= {_key(row) for row in figures[name]} for name in compared)


def _key(row: ResultRow) -> tuple[str, str | None, float, str]:
    return row.attack, row.norm, row.eps, row.directed_at


def _of_variant(claim: Claim, name: str, figures: Figures) -> list[Standing]:
    """Row by row."""
    own = _rates(figures, Reference(variant=name, column=claim.column), claim.rows)
    if claim.range is not None:
        return [within(rate, claim.range) for rate in own.values()]
    other = _rates(figures, claim.than, claim.rows)
    return [standing(claim.relation, rate, other[key]) for key, rate in own.items() if key in other]


def _any(of_rows: Sequence[Standing]) -> Standing:
    if "holds" in of_rows:
        return "holds"
    return "open" if "open" in of_rows else "fails"


def _rates(figures: Figures, who: Reference, rows: Rows) -> dict[tuple[str, str | None, float], Rate]:
    found = {(row.attack, row.norm, row.eps): row for row in figures.get(who.variant, ()) if _is_of(row, rows)}
    rates = {key: getattr(row, who.column) for key, row in found.items()}
    return {key: rate for key, rate in rates.items() if rate is not None}


def _is_of(row: ResultRow, rows: Rows) -> bool:
    if row.directed_at != "classifier" or (row.attack == "none") != (rows == "clean"):
        return False
    return rows in ("clean", "attacked") or row.foreseen == (rows == "foreseen")
