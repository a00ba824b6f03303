"""What may lie beside the results in a run's folder: training history, a hardening's choice, an audit, the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, RootModel

from carso.audit.results import Audit
from carso.evaluation.results import FILE, Rate, Results
from carso.storage.files import read_text
from carso.storage.folder import AUDIT, CHOICE, HISTORY, RECIPE
from carso.storage.schema import read_json_if_there

CLASSIFIER = "classifier"
"""The folder in which a hardening audits N."""

MOST, LAST = 10**30, 10**9
"""The largest number of a history that is drawn, and its last epoch; beyond them, something went wrong."""


def column_of(audit: Audit, results: Results) -> str | None:
    """The column of a run whose weights were audited, if there is one."""
    return next((name for name, weights in results.weights.items() if weights == audit.weights), None)


def is_foreign(audit: Audit, results: Results) -> bool:
    """Whether the audit is known to be of weights that no column of the run has."""
    return bool(audit.weights and results.weights) and column_of(audit, results) is None


def doubt_of(audit: Audit, results: Results) -> str | None:
    """Why the audit cannot be taken for one of the run, in a sentence; None if it is one of its columns."""
    if audit.weights is None or not results.weights:
        silent = AUDIT if audit.weights is None else FILE
        return f"Whether the audit beside these results is of the same weights is unknown: {silent} does not say."
    if is_foreign(audit, results):
        return "The audit beside these results is not of this run: its weights are those of no column."
    if audit.dataset and results.dataset and audit.dataset != results.dataset:
        return f"The audit beside these results is on other images: {audit.dataset}, not {results.dataset}."
    if turns_away(audit):
        return f"The audit beside these results is of {audit.target}: what is turned away counts as right in it."
    return None


def turns_away(audit: Audit) -> bool:
    """Whether what the target turned away counts as right in an audit."""
    return any(budget.turned_away is not None for budget in audit.budgets)


class Epoch(BaseModel, extra="allow"):
    """One epoch of `history.json`; every further number is a metric."""

    stage: str
    epoch: Annotated[float, Field(ge=0, le=LAST, multiple_of=1)]

    def metrics(self) -> dict[str, float]:
        """The numbers beside stage and epoch that can be drawn.

        A loss before batch norm has seen enough may be none.
        """
        found = self.__pydantic_extra__ or {}
        numbers = {k: v for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}
        return {name: float(number) for name, number in numbers.items() if abs(number) <= MOST}


class _History(RootModel[list[Epoch]]):
    """All of them."""


class Choice(BaseModel):
    """`choice.json`: which purifier a hardening kept, by held-out images that were attacked as a whole."""

    kept: str
    rates: dict[str, Rate]


def is_alone(directory: Path) -> bool:
    """Whether a folder holds an audit and no results."""
    return (directory / AUDIT).exists() and not (directory / FILE).exists()


def read_audit(directory: Path) -> Audit | None:
    """The audit of a run, if it has one.

    Raises:
        RunError: if it is not what an audit writes; names file and field.
    """
    return Audit.read_if_there(directory)


def read_history(directory: Path) -> Sequence[Epoch]:
    """The training history of a run, empty if there is none.

    Raises:
        RunError: if it is not what training writes; names file and field.
    """
    found = read_json_if_there(directory / HISTORY, _History, "repair or delete it")
    return found.root if found else []


def read_choice(directory: Path) -> Choice | None:
    """The choice of a hardening, if the run is one.

    Raises:
        RunError: if it is not what a hardening writes; names file and field.
    """
    return read_json_if_there(directory / CHOICE, Choice, "delete it to choose again")


def read_recipe_text(directory: Path) -> str | None:
    """The resolved recipe beside the results, as it stands."""
    path = directory / RECIPE
    return read_text(path) if path.is_file() else None
