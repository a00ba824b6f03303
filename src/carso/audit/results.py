"""`audit.json`: what an audit found, with the evidence of whether to believe it.

    {"target", "n", "seed",
     "budgets": [{"norm", "eps", "clean": R, "worst_case": R, "attacks": [{"name", "result": R, "seconds"}]}],
     "checks": [{"name", "raised", "value", "meaning"}]}

R is a rate as in `results.json`. Beside these fields, an attack tells its kind, whether it was run on all images or on
the survivors of those before it (its result is then what all of them leave together), how many it attacked, and, where
they apply, `gains` (points of accuracy that each round took), `non_finite` (images on which it met gradients that are
NaN or infinite, in the round that met most), `claimed` (what it says of itself, on evaluations that it chose among) and
`known` (the accuracy against an attacker who knows the latents). A budget tells its strongest attack
and how its worst case fares over k fresh votes: `mean` of the votes, and `worst_of_k`, where one wrong vote is enough.
`weights` is a digest of the target's, as in `results.json`; null for a function, which cannot be looked into.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from carso.audit.diagnostics import Diagnostics
from carso.audit.plan import Kind, On
from carso.evaluation.display import Displayed
from carso.evaluation.environment import Environment
from carso.evaluation.results import Believed, Count, Percent, Rate
from carso.storage.folder import AUDIT
from carso.storage.schema import Kept
from carso.types import Norm, spelled

NotNegative = Annotated[float, Field(ge=0)]


class _Model(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)


class AttackResult(_Model):
    """One attack, and the accuracy that it leaves."""

    name: str
    result: Rate
    seconds: NotNegative
    kind: Kind
    on: On
    attacked: Count
    gains: list[float] = []
    non_finite: Count = 0
    claimed: Rate | None = None
    known: Rate | None = None
    options: dict[str, Any] = {}

    @property
    def left_out(self) -> str | None:
        """Why it was not carried out; None if it was."""
        return self.options.get("left_out")


class Turned(_Model):
    """What a target that may turn images away did with them; its rates then are of images right or turned away.

    Attributes:
        clean: with the clean images.
        attacked: with the worst ones.
    """

    clean: Believed
    attacked: Believed


class BudgetResult(_Model):
    """One budget: the accuracy on clean images, under each attack, and under the worst of them per image."""

    norm: Norm
    eps: Annotated[float, Field(gt=0)]
    clean: Rate
    worst_case: Rate
    attacks: list[AttackResult]
    mean: Percent
    worst_of_k: Rate
    white_box: Rate | None
    strongest: str | None
    turned_away: Turned | None = None
    diagnostics: Annotated[Diagnostics, Field(validation_alias=AliasChoices("diagnostics", "probe"))]

    @property
    def title(self) -> str:
        """Norm and radius."""
        return f"{self.norm} {spelled(self.eps)}"

    def find(self, name: str) -> AttackResult | None:
        """An attack by its name."""
        return next((attack for attack in self.attacks if attack.name == name), None)


class Check(_Model):
    """One reason to doubt the figures, raised or not."""

    name: str
    raised: bool
    value: float
    meaning: str
    threshold: float
    budget: str | None = None


class Audit(Displayed, Kept, _Model):
    """The whole of `audit.json`."""

    KEPT_AS, REMEDY = AUDIT, "`carso audit` writes it anew"

    target: str
    n: Annotated[int, Field(ge=1)]
    seed: int
    budgets: list[BudgetResult]
    checks: list[Check]
    dataset: str
    effort: str
    votes: Annotated[int, Field(ge=1)]
    random: bool
    environment: Environment
    weights: str | None = None

    @property
    def raised(self) -> list[Check]:
        """The checks that are raised."""
        return [check for check in self.checks if check.raised]

    @property
    def exit_code(self) -> int:
        """0 if no check is raised, else 3."""
        return 3 if self.raised else 0


def read_audit(path: str | Path) -> Audit:
    """Read `audit.json`, given itself or its folder.

    Raises:
        RunError: if it is missing, or a field is missing or wrong.
    """
    return Audit.read(path)
