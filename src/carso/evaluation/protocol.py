"""The rows of the table, as data: an attack, its budget and options, and what it is directed at.

Thesis protocol: every attack is crafted on the classifier alone (the defended columns share the images crafted on N)
and handed to each column. That is a transfer threat model with respect to CARSO. `directed_at="defence"` is the other
one: gradients flow through the whole defence.

The published figures stand beside the rows. Two notes on them: the thesis labels its FGSM L2, but its figures are those
of the sign attack, so the L2 reading has rows of its own here; and its PGD was weakened by its own classifier, whose
Mish on the logits saturates the softmax, so its PGD figures are upper bounds.

Source: E. Ballarin, MSc thesis, University of Trieste, 2022, table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from carso.corruptions import CORRUPTIONS
from carso.evaluation.results import COLUMNS, Target
from carso.types import Budget, Norm, Scale, Severity

PGD: Mapping[str, Any] = {"steps": 40, "alpha": 0.01, "random_start": True}
DEEPFOOL: Mapping[str, Any] = {"steps": 50, "overshoot": 0.02}


@dataclass(frozen=True)
class Row:
    """One attack on the test images.

    Args:
        attack: "none", or the name of a function of `carso.attacks`, or of a corruption.
        budget: how far an attack may go, or how severe a corruption is; None for the clean row.
        foreseen: whether the attack, at this budget, was used in training.
        directed_at: whose gradients the attack follows: the classifier's, or those of the whole defence.
        options: further arguments of the attack.
        eot: candidates over which a defence's surrogate averages each gradient (expectation over transformation).
        thesis: the published accuracy of each column, in percent, or None where the thesis has no such row.
    """

    attack: str
    budget: Budget | Severity | None = None
    foreseen: bool = False
    directed_at: Target = "classifier"
    options: Mapping[str, Any] = field(default_factory=dict)
    eot: int = 1
    thesis: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        if (self.attack == "none") != (self.budget is None):
            raise ValueError(f"attack {self.attack!r} with budget {self.budget}: only 'none' has no budget")

    @property
    def norm(self) -> Scale | None:
        """The norm of the budget, "severity" for a corruption; None for the clean row."""
        return self.budget.norm if self.budget else None

    @property
    def eps(self) -> float:
        """The radius of the budget, or the severity; 0 for the clean row."""
        return float(self.budget.eps) if self.budget else 0.0

    @property
    def key(self) -> str:
        """What tells this row from every other one, whatever it is listed beside."""
        settings = dict(self.options) | ({"eot": self.eot} if self.directed_at == "defence" else {})
        options = ",".join(f"{name}={value}" for name, value in sorted(settings.items()))
        parts = (self.attack, self.norm, f"{self.eps:g}", self.directed_at, options)
        return "-".join(str(part) for part in parts if part)


def _published(*figures: float) -> dict[str, float]:
    return dict(zip(COLUMNS, figures, strict=True))


def _linf(attack: str, eps: float, thesis: dict[str, float], foreseen: bool = False, **options: Any) -> Row:
    return Row(attack, Budget("Linf", eps), foreseen, options=options, thesis=thesis)


THESIS: tuple[Row, ...] = (
    Row("none", foreseen=True, thesis=_published(98.40, 97.17, 96.72)),
    _linf("fgsm", 0.15, _published(12.09, 91.89, 93.62), foreseen=True),
    _linf("fgsm", 0.30, _published(1.21, 76.94, 86.43), foreseen=True),
    _linf("fgsm", 0.50, _published(1.00, 12.29, 13.59)),
    _linf("pgd", 0.15, _published(1.60, 90.54, 93.44), foreseen=True, **PGD),
    _linf("pgd", 0.30, _published(6.85, 71.26, 86.27), foreseen=True, **PGD),
    _linf("pgd", 0.50, _published(20.66, 11.67, 38.38), **PGD),
    _linf("deepfool", 0.15, _published(0.66, 90.25, 95.06), **DEEPFOOL),
    _linf("deepfool", 0.30, _published(0.00, 60.54, 93.31), **DEEPFOOL),
    _linf("deepfool", 0.50, _published(0.00, 0.78, 71.34), **DEEPFOOL),
)
"""The thesis's ten rows."""

FGSM_L2: tuple[Row, ...] = tuple(Row("fgsm", Budget("L2", eps)) for eps in (0.15, 0.30, 0.50))
"""FGSM as the thesis's text labels it: a step along the L2-normalised gradient."""

TABLE: tuple[Row, ...] = THESIS + FGSM_L2

END_TO_END: tuple[Row, ...] = tuple(
    Row("pgd-eot", Budget("Linf", eps), directed_at="defence", options={"steps": 100, "loss": "margin"})
    for eps in (0.15, 0.30)
)
"""An attacker who knows of the defence: annealed PGD on the whole of each column, fresh latents in every step. An audit
tries far more (`carso.audit`); these rows stand in every table so that no reader mistakes the transfer for it."""

CURVE_EPS = (0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50)


def curve(
    directed_at: Target = "classifier", steps: int = 40, norm: Norm = "Linf", scale: float = 1.0
) -> tuple[Row, ...]:
    """Rows of the accuracy-against-eps curve: no attack, then PGD whose step of eps / 30 can cross every ball.

    At eps 0.30 and 40 steps it is the thesis's PGD. `scale` is what the radii are multiplied by.
    """
    attacked = (
        Row("pgd", Budget(norm, eps), directed_at=directed_at, options=_crossing(eps, steps))
        for eps in (scale * each for each in CURVE_EPS)
    )
    return (Row("none", foreseen=True, directed_at=directed_at), *attacked)


def _crossing(eps: float, steps: int) -> dict[str, Any]:
    return {"steps": steps, "random_start": True, "alpha": round(eps / 30, 6)}


SWEEP: tuple[Row, ...] = tuple(
    row for row in THESIS if row.attack == "none" or (row.attack == "pgd" and row.eps >= 0.3)
)
"""The rows whose accuracy is followed as the number of samples grows."""


LEVELS = (1, 3, 5)
CORRUPTED: tuple[Row, ...] = (
    Row("none", foreseen=True),
    *(Row(name, Severity(level)) for name in CORRUPTIONS for level in LEVELS),
    *(Row("spatial", Severity(level), directed_at="defence", eot=4) for level in LEVELS),
)
"""What nobody trains on and no norm measures: every corruption, and the worst pose of each image for each column."""


@dataclass(frozen=True)
class Protocol:
    """All that is evaluated.

    Attributes:
        rows: of the table.
        curve_rows: the points of the accuracy-against-eps curve.
        sweep_rows: the rows whose accuracy is followed as the number of samples grows.
    """

    rows: tuple[Row, ...] = TABLE + END_TO_END
    curve_rows: tuple[Row, ...] = curve()
    sweep_rows: tuple[Row, ...] = SWEEP

    def unpublished(self) -> Protocol:
        """The same without the thesis's figures, where the networks are not its own."""
        return replace(self, rows=tuple(replace(row, thesis=None) for row in self.rows))


def protocol_at(radii: Sequence[float], norm: Norm = "Linf", foreseen: Container[tuple[str, float]] = ()) -> Protocol:
    """The thesis's attacks at other radii, without its figures, which are of its own.

    Args:
        radii: of the table, at least one.
        norm: of all balls.
        foreseen: names of attacks, and the radii at which they were used in training.
    """
    radii, clean = sorted(set(radii)), Row("none", foreseen=True)
    options: dict[str, Callable[[float], Mapping[str, Any]]] = {
        "fgsm": lambda eps: {},
        "pgd": lambda eps: _crossing(eps, PGD["steps"]),
        "deepfool": lambda eps: DEEPFOOL,
    }
    transferred = tuple(
        Row(attack, Budget(norm, eps), (attack, eps) in foreseen, options=of(eps))
        for attack, of in options.items()
        for eps in radii
    )
    first, *_, last = END_TO_END
    whole = tuple(replace(first, budget=Budget(norm, eps), foreseen=(first.attack, eps) in foreseen) for eps in radii)
    strongest = [row for row in transferred if row.attack == "pgd"][-1]
    return Protocol((clean, *transferred, *whole), curve(norm=norm, scale=radii[-1] / last.eps), (clean, strongest))
