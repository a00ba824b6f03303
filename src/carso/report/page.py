"""The page: `report.html`, one file that needs no network, from `results.json` and the saved records alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from carso.audit.results import Audit
from carso.errors import RunError
from carso.evaluation.records import FILE, Records, read_records
from carso.evaluation.results import FILE as RESULTS
from carso.evaluation.results import Results, read_results
from carso.report import charts, figures, wording
from carso.report.artifacts import (
    CLASSIFIER,
    column_of,
    doubt_of,
    is_alone,
    is_foreign,
    read_audit,
    read_choice,
    read_history,
    read_recipe_text,
    turns_away,
)
from carso.report.gallery import gallery_rows
from carso.report.verdict import hardest, met_whole, subject, verdict
from carso.storage.files import write_text
from carso.storage.folder import AUDIT
from carso.storage.schema import within

PAGE = "report.html"

SAME = {"weights": "other weights", "dataset": "other images", "n": "another number of images", "seed": "another seed"}
"""What records have in common with the results that were computed from them, and what they are of if they have not."""

RULES = {
    "random": "Drawn by the seed, whatever became of them.",
    "narrow win": "Right, by the least margin of the vote.",
    "failure": "Wrong; drawn by the seed.",
    "only defence right": "Right where the bare classifier errs on the same image; drawn by the seed.",
    "only classifier right": "Wrong where the bare classifier is right on the same image; drawn by the seed.",
}


@dataclass(frozen=True)
class Audited:
    """An audit beside results.

    Attributes:
        audit: what was found.
        file: its name, as seen from the run's folder.
        column: of the run, whose weights were audited; None if there is none.
        doubt: why it cannot be taken for one of the run, in a sentence; None if it can.
        curve: what it left, budget by budget.
        foreign: whether the weights are those of no column.
        turning: whether what was turned away counts as right in it.
    """

    audit: Audit
    file: str
    column: str | None
    doubt: str | None
    curve: figures.Figure | None
    foreign: bool
    turning: bool

    @classmethod
    def beside(cls, results: Results, audit: Audit, file: str) -> Audited:
        """The audit of a file beside these results."""
        column, doubt = column_of(audit, results), doubt_of(audit, results)
        return cls(audit, file, column, doubt, figures.of_audit(audit), is_foreign(audit, results), turns_away(audit))


def write_report(directory: Path, page: Path | None = None) -> Path:
    """Write the report of a run, by default into its folder.

    Besides `results.json` and `records.safetensors`, the page shows `history.json`, `choice.json`, `audit.json`, that
    of `classifier/` and `recipe.yaml` where the folder has them.

    Args:
        directory: the run's folder.
        page: where to write; by default `report.html` in the folder.

    Returns:
        The page's path.

    Raises:
        RunError: if results are missing, damaged or of nothing, naming the file; WeightsError if the records are.
    """
    results, audit = evaluated(directory), read_audit(directory)
    records, strangers = recorded(directory, results)
    beside = [(AUDIT, audit), (f"{CLASSIFIER}/{AUDIT}", read_audit(directory / CLASSIFIER))]
    audits = [Audited.beside(results, one, file) for file, one in beside if one is not None]
    context = _about(results, audit, records) | (_seen(records, results) if records else {})
    history = figures.training(read_history(directory))
    path = page or directory / PAGE
    seen = {
        "audits": audits,
        "strangers": strangers,
        "history": history,
        "choice": read_choice(directory),
        "recipe_text": read_recipe_text(directory),
    }
    write_text(path, render("report.html", context | seen))
    return path


def evaluated(directory: Path) -> Results:
    """The results of a run, which hold one accuracy at least.

    Raises:
        RunError: if they are missing or damaged, or hold none; names the file.
    """
    if is_alone(directory):
        raise RunError(f"{directory}: holds an audit and no results; `carso report {directory}` shows it by itself")
    results = read_results(directory)
    if not results.columns():
        raise RunError(f"{within(directory, RESULTS)}: rows: hold no accuracy of any column; evaluate again")
    return results


def recorded(directory: Path, results: Results) -> tuple[Records | None, str | None]:
    """The records beside results, if they are of the same run; if there are others, a sentence on why they are not.

    Raises:
        RunError: if they are damaged.
    """
    if not (directory / FILE).exists():
        return None, None
    records = read_records(directory)
    theirs = records.results()
    for field, what in SAME.items():
        here, there = getattr(results, field), getattr(theirs, field)
        if here != there and (field in ("n", "seed") or (here and there)):
            return None, f"The records beside these results are of another run, of {what}: what they show is left out."
    return records, None


def render(template: str, context: dict[str, Any]) -> str:
    """A page from one of the templates."""
    environment = Environment(
        loader=PackageLoader("carso.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template(template).render(context, wording=wording)


def _about(results: Results, audit: Audit | None, records: Records | None) -> dict[str, Any]:
    return {
        "results": results,
        "subject": subject(results),
        "columns": results.columns(),
        "heading": partial(wording.heading, adversarial=results.adversarial),
        "groups": wording.groups(results.rows, results.whole),
        "fewer": wording.fewer(results),
        "verdict": verdict(results, audit, records),
        "met_whole": bool(met_whole(results, subject(results))),
        "embedded": json.loads(results.model_dump_json()),
        "curves": [],
        "stepped": False,
        "sweep": None,
        "needed": None,
        "confusion": [],
        "gallery_rows": [],
        "rules": RULES,
        "opened": wording.attack(hardest(results.rows, subject(results))),
        "fingerprint": None,
    }


def _seen(records: Records, results: Results) -> dict[str, Any]:
    return {
        "stepped": bool(records.curve),
        "curves": figures.against_eps(records) + figures.of_results(results, ("defence",), charts.LARGE),
        "sweep": figures.against_votes(records),
        "needed": figures.votes_needed(records),
        "confusion": figures.confusion(records, results),
        "gallery_rows": gallery_rows(records),
        "fingerprint": records.fingerprint,
    }
