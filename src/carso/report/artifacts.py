"""What may lie beside the results in a run's folder: training history, a hardening's choice, an audit, the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, Field, RootModel

from carso.evaluation.results import FILE, Believed, Rate, Results
from carso.storage.files import read_text
from carso.storage.schema import read_json_if_there
from carso.storage.weights import AUDIT, CHOICE, HISTORY, RECIPE
from carso.types import Norm

if TYPE_CHECKING:
    from carso.audit.results import Audit as FullAudit

MOST, LAST = 10**30, 10**9
"""The largest number of a history that is drawn, and its last epoch; beyond them, something went wrong."""


class AuditAttack(BaseModel):
    """One attack of an audit, and the accuracy that it leaves, with those before it if `on` is "survivors"."""

    name: str
    result: Rate
    seconds: float | None = None
    on: Literal["all", "survivors"] = "all"
    attacked: int | None = None
    options: dict[str, Any] = {}

    @property
    def left_out(self) -> str | None:
        """Why it was not carried out; None if it was."""
        return self.options.get("left_out")


class Away(BaseModel):
    """What a target that may turn images away did with the clean images, and with the worst ones."""

    clean: Believed
    attacked: Believed


class AuditBudget(BaseModel):
    """All attacks within one budget; `worst_case` counts an image as right only if no attack fools it."""

    norm: Norm
    eps: Annotated[float, Field(gt=0)]
    clean: Rate
    worst_case: Rate
    attacks: list[AuditAttack] = []
    turned_away: Away | None = None


class AuditCheck(BaseModel):
    """A sign that robustness may be an illusion; `raised` if it was seen."""

    name: str
    raised: bool
    value: float | str | bool | None = None
    threshold: float | None = None
    budget: str | None = None
    meaning: str = ""


class Audit(BaseModel):
    """`audit.json`."""

    target: str
    n: int
    seed: int
    budgets: list[AuditBudget]
    checks: list[AuditCheck]
    dataset: str = ""
    weights: str | None = None

    def column(self, results: Results) -> str | None:
        """The column of a run whose weights were audited, if there is one."""
        return next((name for name, weights in results.weights.items() if weights == self.weights), None)

    def is_foreign(self, results: Results) -> bool:
        """Whether the audit is known to be of weights that no column of the run has."""
        return bool(self.weights and results.weights) and self.column(results) is None

    def doubt(self, results: Results) -> str | None:
        """Why the audit cannot be taken for one of the run, in a sentence; None if it is one of its columns."""
        if self.weights is None or not results.weights:
            silent = AUDIT if self.weights is None else FILE
            return f"Whether the audit beside these results is of the same weights is unknown: {silent} does not say."
        if self.is_foreign(results):
            return "The audit beside these results is not of this run: its weights are those of no column."
        if self.dataset and results.dataset and self.dataset != results.dataset:
            return f"The audit beside these results is on other images: {self.dataset}, not {results.dataset}."
        if turns_away(self):
            return f"The audit beside these results is of {self.target}: what is turned away counts as right in it."
        return None


def turns_away(audit: Audit | FullAudit) -> bool:
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


def read_audit(directory: Path) -> Audit | None:
    """The audit of a run, if it has one.

    Raises:
        RunError: if it is not what an audit writes; names file and field.
    """
    return read_json_if_there(directory / AUDIT, Audit, "`carso audit` writes it anew")


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
