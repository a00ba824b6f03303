"""Reasons to doubt an audit's figures, each a small function that bears the check's name.

A check is raised when its value exceeds its threshold. Of several budgets, the largest value counts. The thresholds
leave room for chance on a few hundred images. On fewer than 100 / threshold, one image is worth more points than the
threshold: a check that counts broken or surviving images is then raised by two of them at least. docs/audit.md explains
each check, and what to do about it.

Sources: A. Athalye, N. Carlini and D. Wagner, "Obfuscated gradients give a false sense of security", ICML 2018;
N. Carlini et al., "On evaluating adversarial robustness", 2019; F. Tramer et al., "On adaptive attacks to adversarial
example defenses", NeurIPS 2020; the flags of AutoAttack.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from carso.audit.diagnostics import MISLED
from carso.audit.plan import lately
from carso.audit.results import BudgetResult, Check

ROUNDING = 1e-9
"""Of points: exactly at its threshold a check is not raised."""


@dataclass(frozen=True)
class Evidence:
    """What the checks look at.

    Args:
        budgets: what was found.
        random: whether the target answers at random.
        averaged: whether the attacks averaged over its randomness.
        repeatable: whether the seed decides its randomness.
    """

    budgets: Sequence[BudgetResult]
    random: bool
    averaged: bool
    repeatable: bool = True


Measure: TypeAlias = Callable[[BudgetResult, Evidence], float]
Count: TypeAlias = Callable[[BudgetResult], int]


@dataclass(frozen=True)
class Doubt:
    """A check to be made.

    Args:
        name: of the check.
        threshold: above which it is raised.
        meaning: in a sentence.
        measure: its value at one budget.
        counts: how many images its value is a share of, if one image alone may fall or stand by chance; else None.
    """

    name: str
    threshold: float
    meaning: str
    measure: Measure
    counts: Count | None

    def check(self, evidence: Evidence) -> Check:
        """The check at the budget where its value is largest."""
        value, budget = max((self.measure(found, evidence), found.title) for found in evidence.budgets)
        one = 0.0 if self.counts is None else 100 / min(map(self.counts, evidence.budgets))
        threshold = max(self.threshold, one)
        return Check(
            name=self.name,
            raised=value - threshold > ROUNDING,
            value=round(value, 4),
            meaning=self.meaning,
            threshold=round(threshold, 4),
            budget=budget,
        )


DOUBTS: list[Doubt] = []
"""Every check, in the order of audit.json and docs/audit.md."""


def doubt(threshold: float, meaning: str, counts: Count | None = None) -> Callable[[Measure], Measure]:
    """Add a check of the function's name, with dashes, whose value the function measures."""

    def added(measure: Measure) -> Measure:
        DOUBTS.append(Doubt(measure.__name__.replace("_", "-"), threshold, meaning, measure, counts))
        return measure

    return added


def audited(found: BudgetResult) -> int:
    """How many images were audited."""
    return found.clean.total


def tried(found: BudgetResult) -> int:
    """How many were tuned on, which are no more."""
    return found.diagnostics.images


@doubt(5.0, "a larger budget contains the smaller one: the attack fails, not the budget", counts=tried)
def accuracy_rises_with_eps(found: BudgetResult, evidence: Evidence) -> float:
    """Points by which accuracy at this eps exceeds that at a smaller one, on all images or on the tuning images."""
    smaller = [b for b in evidence.budgets if b.norm == found.norm and b.eps < found.eps]
    rises = [found.worst_case.accuracy - other.worst_case.accuracy for other in smaller]
    left = [accuracy for _, accuracy in sorted(found.diagnostics.by_eps.items(), key=lambda item: float(item[0]))]
    rises += [later - earlier for i, later in enumerate(left) for earlier in left[:i]]
    return max([0.0, *rises])


@doubt(2.0, "the loss surface misleads iterative attacks: gradients are masked", counts=audited)
def one_step_beats_iterative(found: BudgetResult, evidence: Evidence) -> float:
    """Points by which the best iterative attack leaves more than FGSM."""
    one, many = _left(found, "fgsm"), _left(found, "pgd", "pgd-annealed", "apgd-ce")
    return 0.0 if one is None or many is None else many - one


@doubt(2.0, "attacks without the defence's gradient succeed where it fails: gradients are masked", counts=audited)
def blind_beats_white_box(found: BudgetResult, evidence: Evidence) -> float:
    """Points by which attacks without the defence's gradient lower the accuracy that white-box attacks leave.

    An attack on some of the survivors is extrapolated to all of them, if it breaks more than one image.
    """
    left = found.clean if found.white_box is None else found.white_box
    blind = [a for a in found.attacks if a.kind == "black-box" and round(sum(a.gains) * a.result.total / 100) > 1]
    return max([left.accuracy - found.worst_case.accuracy, *(_further(found, attack.name) for attack in blind)])


@doubt(5.0, "free to draw any image, the attack should reach 0: it does not work here", counts=tried)
def survives_unbounded_attack(found: BudgetResult, evidence: Evidence) -> float:
    """Accuracy (%) on the tuning images when the attacker may draw any image at all."""
    return found.diagnostics.unbounded


@doubt(5.0, "the cross-entropy has no gradient in float32: gradient attacks on it stand still")
def zero_gradients(found: BudgetResult, evidence: Evidence) -> float:
    """Share (%) of the tuning images whose cross-entropy has no gradient."""
    return found.diagnostics.zero_gradients


@doubt(0.0, "gradients are NaN or infinite: attacks that follow them stand still")
def non_finite_gradients(found: BudgetResult, evidence: Evidence) -> float:
    """Largest share (%) of tuning or attacked images on which a gradient, or that of the answer, is NaN or infinite."""
    met = [100 * attack.non_finite / attack.attacked for attack in found.attacks if attack.attacked]
    return max(found.diagnostics.non_finite, found.diagnostics.masked, *met, 0.0)


@doubt(50.0, "outputs are probabilities, overflow the softmax or are clipped: the loss hides the logits")
def saturated_outputs(found: BudgetResult, evidence: Evidence) -> float:
    """Share (%) of the tuning images whose outputs are probabilities, overflow a softmax, or are clipped from below."""
    return found.diagnostics.saturated


@doubt(0.0, "the target answers at random, but the attack followed single draws: average over them")
def randomised_without_eot(found: BudgetResult, evidence: Evidence) -> float:
    """Spread of the true class's probability over calls, if the attacks did not average over it."""
    return 0.0 if evidence.averaged or not evidence.random else found.diagnostics.spread


@doubt(0.0, "no seed rules the target's chance: it was never held fixed, and the same audit gives other figures")
def randomness_unseeded(found: BudgetResult, evidence: Evidence) -> float:
    """Whether the target's answers differ from one call to the next of the same seed."""
    return float(not evidence.repeatable)


@doubt(2.0, "more candidates per gradient still lower the worst case: the figures are upper bounds", counts=audited)
def not_converged_in_eot(found: BudgetResult, evidence: Evidence) -> float:
    """Points of the worst case that four times as many candidates per gradient took from all attacks before."""
    return _further(found, "pgd-annealed-more-candidates")


@doubt(2.0, "more steps still lower the worst case: the figures are upper bounds", counts=audited)
def not_converged_in_steps(found: BudgetResult, evidence: Evidence) -> float:
    """Points of the worst case that the long run took from all attacks before."""
    return _further(found, "pgd-annealed-long")


@doubt(2.0, "twice the restarts still lowered it: the figures are upper bounds", counts=audited)
def not_converged_in_restarts(found: BudgetResult, evidence: Evidence) -> float:
    """Points gained by the later half of annealed PGD's runs, from random starts or from neighbours."""
    runs = [attack.gains for attack in found.attacks if attack.name in ("pgd-annealed", "pgd-annealed-neighbours")]
    return max((lately(gains) for gains in runs if len(gains) > 1), default=0.0)


@doubt(10.0, "the attacked surrogate is not the defence that answers")
def surrogate_disagrees(found: BudgetResult, evidence: Evidence) -> float:
    """Share (%) of clean and attacked images on which some class gets more answers than the surrogate's class."""
    return found.diagnostics.disagreement


@doubt(80.0, "random noise does as much harm as the attack: the attack finds no direction")
def noise_harms_like_attacks(found: BudgetResult, evidence: Evidence) -> float:
    """Accuracy loss by noise, in percent of that by the strongest white-box attack.

    It is 0 if noise takes less than 5 points, or if the attack leaves less than 5 %.
    """
    white = [a.result.accuracy for a in found.attacks if a.kind == "white-box"]
    noise = _left(found, "noise")
    if not white or noise is None or min(white) < 5 or found.clean.accuracy - noise < 5:
        return 0.0
    return 100 * (found.clean.accuracy - noise) / max(found.clean.accuracy - min(white), 1e-9)


@doubt(MISLED, "the gradient is not the slope of what the target computes")
def wrong_gradients(found: BudgetResult, evidence: Evidence) -> float:
    """Share (%) of the tuning images whose gradient is not the slope that finite differences measure, short or long."""
    return found.diagnostics.misled


@doubt(
    5.0,
    "an untouched copy falls for images that the target withstands: what it was asked before protects it",
    counts=audited,
)
def depends_on_history(found: BudgetResult, evidence: Evidence) -> float:
    """Points by which an untouched copy is right on fewer of the same attacked images."""
    return found.diagnostics.remembered


def make(evidence: Evidence) -> list[Check]:
    """Every check."""
    return [doubt.check(evidence) for doubt in DOUBTS]


def _left(found: BudgetResult, *names: str) -> float | None:
    """The least accuracy that one of the attacks leaves, or None if none of them was run."""
    return min((a.result.accuracy for a in found.attacks if a.name in names), default=None)


def _further(found: BudgetResult, name: str) -> float:
    """Accuracy loss extrapolated from the attacked survivors to all survivors, in points."""
    attack = found.find(name)
    if attack is None or not attack.attacked:
        return 0.0
    gain = attack.gains[0]
    survivors = attack.result.accuracy + sum(attack.gains)
    return gain * survivors / (100 * attack.attacked / attack.result.total)
