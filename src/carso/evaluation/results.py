"""`results.json`: every figure of an evaluation with its n, its interval, and what the attack was aimed at.

    {"recipe", "seed", "n", "environment",
     "rows": [{"attack", "norm", "eps", "foreseen", "directed_at",
               "undefended": R, "adversarially_trained": R, "carso": R}]}
    R = {"correct", "total", "accuracy", "ci95": [low, high]}, in percent

The clean row is attack "none" with norm null and eps 0; a corruption has the norm "severity", and its level for eps.
A column that a run lacks is null. Other fields may stand beside these: `thesis` (the published figures of the row),
`seconds`, `samples_used`, `options`, `others` (columns), `believed` (what a defence turned away, and how many of the
other images are right); `weights`, a digest of each column's weights, by which an audit is known to be of the same
ones; `adversarial`, false if the column `adversarially_trained` is a classifier that is not known to be so; `hidden`,
the columns in which no classifier can be seen, so that attacks on the classifier were crafted on themselves; and
`flat`, those whose gradient is zero on most images, so that what attacks leave of them says nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor

from carso.evaluation.display import Displayed
from carso.evaluation.environment import Environment
from carso.evaluation.interval import difference, wilson
from carso.storage.schema import Kept
from carso.types import Scale

Target = Literal["classifier", "defence"]
TARGETS: tuple[Target, ...] = get_args(Target)
COLUMNS = ("undefended", "adversarially_trained", "carso")
FILE = "results.json"

OWN = ", labelled by the classifier's own answers"
"""At the end of the name of images that nobody labelled."""

Percent = Annotated[float, Field(ge=0, le=100)]
Count = Annotated[int, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class Rate(_Model):
    """An accuracy with its counts and its 95 % Wilson interval, in percent."""

    correct: Count
    total: Annotated[int, Field(ge=1)]
    accuracy: Percent
    ci95: tuple[Percent, Percent]

    @classmethod
    def of(cls, correct: int, total: int) -> Rate:
        """The rate of `correct` out of `total` images."""
        return cls(correct=correct, total=total, accuracy=100 * correct / total, ci95=wilson(correct, total))

    def above(self, other: Rate) -> tuple[float, float]:
        """The 95 % interval of the difference to another one of independent images, in points."""
        return difference(self.accuracy, self.ci95, other.accuracy, other.ci95)

    @model_validator(mode="after")
    def _consistent(self) -> Rate:
        if self.correct > self.total:
            raise ValueError(f"correct is {self.correct}, more than total, {self.total}")
        if abs(self.accuracy - 100 * self.correct / self.total) > 0.01:
            raise ValueError(f"accuracy is {self.accuracy}, but {self.correct} of {self.total} are correct")
        if not self.ci95[0] <= self.accuracy + 1e-9 or not self.accuracy <= self.ci95[1] + 1e-9:
            raise ValueError(f"accuracy {self.accuracy} lies outside its interval {self.ci95}")
        return self


class Believed(_Model):
    """What a defence that may turn images away did with some.

    Attributes:
        false_alarms: the rate that it was set to.
        turned_away: how many images.
        right: how many of the others are right; None where all were turned away.
    """

    false_alarms: float
    turned_away: Rate
    right: Rate | None

    @classmethod
    def of(cls, accepted: Tensor, right: Tensor, false_alarms: float) -> Believed:
        """From whether each image (n,) is believed, and whether it is right."""
        among = right[accepted]
        return cls(
            false_alarms=false_alarms,
            turned_away=Rate.of(int((~accepted).sum()), len(accepted)),
            right=Rate.of(int(among.sum()), len(among)) if len(among) else None,
        )


class ResultRow(_Model):
    """One attack, and the accuracy that each column keeps under it."""

    attack: str
    norm: Scale | None
    eps: Annotated[float, Field(ge=0)]
    foreseen: bool
    directed_at: Target
    undefended: Rate | None = None
    adversarially_trained: Rate | None = None
    carso: Rate | None = None
    others: dict[str, Rate] = {}
    thesis: dict[str, float] | None = None
    options: dict[str, Any] = {}
    seconds: float | None = None
    samples_used: dict[str, float] | None = None
    believed: Believed | None = None

    @model_validator(mode="after")
    def _clean_or_attacked(self) -> ResultRow:
        clean = self.attack == "none"
        if clean != (self.norm is None) or clean != (self.eps == 0):
            raise ValueError("attack 'none' has norm null and eps 0, every other attack has a norm and a positive eps")
        return self

    def rates(self) -> dict[str, Rate]:
        """The columns that this row has, in order."""
        named = {name: getattr(self, name) for name in COLUMNS}
        return {name: rate for name, rate in named.items() if rate is not None} | self.others


class Results(Displayed, Kept, _Model):
    """The whole of `results.json`."""

    KEPT_AS, REMEDY = FILE, "`carso evaluate` and `carso reproduce` write it anew"

    recipe: str
    seed: int
    n: Annotated[int, Field(ge=1)]
    environment: Environment
    rows: list[ResultRow]
    dataset: str = ""
    settings: dict[str, Any] = {}
    command: str = ""
    weights: dict[str, str] = {}
    adversarial: bool = True
    hidden: list[str] = []
    flat: list[str] = []

    @property
    def whole(self) -> bool:
        """Whether no classifier can be seen in any column."""
        return bool(self.hidden) and {*self.columns()} <= {*self.hidden}

    @property
    def corrupted(self) -> bool:
        """Whether its rows are corruptions, which no attacker chose."""
        return any(row.norm == "severity" for row in self.rows)

    def columns(self) -> list[str]:
        """The names of all columns that some row has, in order."""
        found = dict.fromkeys(name for row in self.rows for name in row.rates())
        return [*(name for name in COLUMNS if name in found), *(name for name in found if name not in COLUMNS)]


def write_results(results: Results, directory: Path) -> Path:
    """Write `results.json` into `directory` in one step, so that no reader ever sees half of it."""
    return results.write(directory)


def read_results(path: str | Path) -> Results:
    """Read `results.json`, given itself or its folder.

    Raises:
        RunError: if the file is missing, is not JSON, or a field is missing or wrong; the message names file and field.
    """
    return Results.read(path)
