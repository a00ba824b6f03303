"""Several runs side by side: `comparison.html`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from carso.errors import RunError
from carso.evaluation.records import Records
from carso.evaluation.results import Believed, Rate, ResultRow, Results
from carso.report import figures, wording
from carso.report.page import evaluated, recorded, render
from carso.report.verdict import hardest, short, subject
from carso.storage.files import write_text

PAGE = "comparison.html"

Key: TypeAlias = tuple[str, str | None, float, str, str]


@dataclass(frozen=True)
class Run:
    """One run, by the name that tells it from the others."""

    name: str
    results: Results
    records: Records | None
    strangers: str | None = None
    """Why the records beside the results are none of the run."""

    def row(self, key: Key) -> ResultRow | None:
        """The run's row of this key, if it has one."""
        return next((row for row in self.results.rows if key_of(row) == key), None)

    def rate(self, key: Key, column: str) -> Rate | None:
        """The accuracy of a column in that row."""
        row = self.row(key)
        return None if row is None else row.rates().get(column)

    def believed(self, key: Key, column: str) -> Believed | None:
        """What was turned away in that row, if the column is the one that may."""
        row = self.row(key)
        return None if row is None or column != subject(self.results) else row.believed


def key_of(row: ResultRow) -> Key:
    """What makes rows of two runs comparable: attack, budget, aim and options."""
    return row.attack, row.norm, row.eps, row.directed_at, json.dumps(row.options, sort_keys=True)


def compare(directories: Sequence[Path], page: Path | None = None) -> Path:
    """Write a page that sets several runs side by side.

    Args:
        directories: the runs' folders, at least two.
        page: where to write; by default `comparison.html` beside the first folder.

    Returns:
        The page's path.

    Raises:
        RunError: if there are fewer than two runs, or the results of one are missing or damaged.
    """
    if len(directories) < 2:
        raise RunError(f"a comparison needs at least two runs, not {len(directories)}")
    runs = [_run(directory, name) for directory, name in zip(directories, _names(directories), strict=True)]
    path = page or directories[0].resolve().parent / PAGE
    write_text(path, render("comparison.html", _context(runs)))
    return path


def _run(directory: Path, name: str) -> Run:
    results = evaluated(directory)
    return Run(name, results, *recorded(directory, results))


def _names(directories: Sequence[Path]) -> list[str]:
    """The folders' names, with as many parents as it takes to tell them apart."""
    parts = [directory.resolve().parts for directory in directories]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    raise RunError(f"the same run is given twice: {', '.join(map(str, directories))}")


def _context(runs: list[Run]) -> dict[str, Any]:
    rows = {key_of(row): row for run in runs for row in run.results.rows}
    columns = dict.fromkeys(column for run in runs for column in run.results.columns())
    return {
        "runs": runs,
        "headline": _headline(runs),
        "cautions": _cautions(runs),
        "columns": sorted(columns, key=lambda column: column != "carso"),
        "hidden": any(run.results.hidden for run in runs),
        "groups": {column: _groups(runs, list(rows.values()), column) for column in columns},
        "heading": partial(wording.heading, adversarial=_adversarial(runs)),
        "key_of": key_of,
        "foreseen_alike": _foreseen_alike,
        "best": _best,
        "counts": _counts,
        "curves": figures.compared({run.name: run.records for run in runs if run.records}, _adversarial(runs)),
    }


def _adversarial(runs: list[Run]) -> bool:
    return all(run.results.adversarial for run in runs)


def _foreseen_alike(runs: list[Run], key: Key) -> bool:
    """Whether a row was foreseen by all runs that have it, or by none."""
    return len({row.foreseen for run in runs if (row := run.row(key))}) == 1


def _groups(runs: list[Run], rows: list[ResultRow], column: str) -> dict[str, list[ResultRow]]:
    """The rows that some run has of a column, by what they may be compared with."""
    whole = all(column in run.results.hidden for run in runs if column in run.results.columns())
    return wording.groups([row for row in rows if any(run.rate(key_of(row), column) for run in runs)], whole)


def _headline(runs: list[Run]) -> str:
    column = subject(runs[0].results)
    row = hardest(runs[0].results.rows, column)
    rates = _rates(runs, key_of(row), column)
    met = wording.crafted(column, [run.results for run in runs if run.name in rates])
    where = "Without attack" if row.norm is None else f"Under {wording.attack(row)}, {met}"
    counts = {rate.total for rate in rates.values()}
    listed = "; ".join(
        f"{name}: {short(rate)}" + (f" of {rate.total:,}" if len(counts) > 1 else "") for name, rate in rates.items()
    )
    images = f"{counts.pop():,} images" if len(counts) == 1 else "the images"
    close = "; the best 95 % intervals overlap" if len(rates) > 1 and not wording.leader(rates) else ""
    return (
        f"{where}, {wording.heading(column, _adversarial(runs))} is right on these shares of {images}: {listed}{close}."
    )


def _cautions(runs: list[Run]) -> list[str]:
    found = [f"{run.name}: {run.strangers}" for run in runs if run.strangers]
    found += [f"{run.name}: {doubt}" for run in runs for doubt in wording.doubts(run.results, beside=True)]
    if len({run.results.n for run in runs}) > 1:
        found.append("The runs differ in their number of images.")
    if len({run.results.dataset for run in runs}) > 1:
        found.append("The runs were evaluated on different data sets; their figures are not comparable.")
    return found


def _best(runs: list[Run], key: Key, column: str) -> str | None:
    """The run that leads in a cell's row."""
    return wording.leader(_rates(runs, key, column))


def _counts(runs: list[Run], key: Key, column: str) -> set[int]:
    """The numbers of images behind the row's cells."""
    return {rate.total for rate in _rates(runs, key, column).values()}


def _rates(runs: list[Run], key: Key, column: str) -> dict[str, Rate]:
    return {run.name: rate for run in runs if (rate := run.rate(key, column))}
