"""The page of a study: one table of all variants, and the verdicts on the statements."""

from __future__ import annotations

from pathlib import Path

from carso.ablations.results import Ablations, Row
from carso.ablations.verdict import MARGIN
from carso.evaluation.interval import apart
from carso.report.page import PAGE, render
from carso.report.wording import ATTACKS, budget
from carso.storage.files import write_text

RULE = f"""\
A comparison of two accuracies is by their 95 % Wilson intervals. That one is above or below the other holds where these
lie apart as the statement says, fails where they lie apart the other way, and else is open. That one is not above the
other, as of a gain that is small, fails where it lies above, holds where the 95 % interval of the difference (Newcombe)
ends below {MARGIN:g} points, and else is open; not below likewise. That one is within a range holds where its interval
lies inside, fails where it does not meet the range, and else is open. Variants answer the same images, but the record
has counts alone: the intervals are those of independent images, and leave more open than pairs of answers would. A
statement is refuted if a comparison fails, confirmed if none fails and at least half hold, and not testable otherwise;
where it is about some attacks, one that holds is enough."""


def write_page(found: Ablations, folder: Path) -> Path:
    """Write `report.html` into the study's folder, and return its path."""
    path = folder / PAGE
    lines = [("base", "The defence itself.", found.base), *((v.name, v.about, v.rows) for v in found.variants)]
    context = {
        "found": found,
        "heads": [heading(row) for row in found.base],
        "lines": lines,
        "cells": cells,
        "beside": beside,
        "rule": RULE,
    }
    write_text(path, render("ablations.html", context | {"headline": headline(found)}))
    return path


def headline(found: Ablations) -> str:
    """How many statements are confirmed, refuted and not testable."""
    verdicts = [statement.verdict for statement in found.statements]
    counted = ", ".join(f"{verdicts.count(each)} {each}" for each in ("confirmed", "refuted", "not testable"))
    return f"{len(found.variants)} ablations; of {len(verdicts)} statements about them, {counted}"


def heading(row: Row) -> str:
    """The attack of a row, with its budget and whom it is aimed at."""
    name = ATTACKS.get(row.attack, row.attack)
    if row.norm is None:
        return name
    return f"{name} {budget(row.norm, row.eps)}{', end to end' if row.directed_at == 'defence' else ''}"


def cells(rows: list[Row], found: Ablations) -> list[Row | None]:
    """A variant's rows in the order of the base's, None for those that it lacks."""
    own = {row.key: row for row in rows}
    return [own.get(row.key) for row in found.base]


def beside(row: Row) -> str:
    """Whether its interval lies above or below the base's: "above", "below", or nothing."""
    return "" if row.base is None else {1: "above", -1: "below", 0: ""}[apart(row.ci95, row.base.ci95)]
