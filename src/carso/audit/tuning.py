"""Trial attacks on a few images: which loss, how many candidates and steps, and whether more would help.

Each trial is one run of annealed PGD. Of the settings tried, the cheapest is taken that no other one beats by more
than half a point. To push the true class down does not make a target believe a wrong one: where images may be turned
away, those that stand are also driven to single classes in turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Generator, Tensor

from carso.attacks import annealed
from carso.attacks.budget import across
from carso.attacks.eot import Candidates, Expectation
from carso.audit.effort import Sizes
from carso.audit.finite import crafted
from carso.audit.plan import Tuning, at_rival
from carso.audit.verdict import Judge
from carso.progress import Bar
from carso.types import Budget, Images, Labels

RADII = (0.5, 1, 2)
"""Parts of the eps at which `by_eps` attacks."""

TOLERANCE = 0.5
"""Points of accuracy by which another setting must be better to be chosen."""


@dataclass(frozen=True)
class Tuner:
    """Trial attacks.

    Args:
        judge: passes verdicts on the target.
        candidates: what is differentiated.
        images: (B, C, H, W), on the target's device.
        labels: their classes (B,), likewise.
        budget: of the attacks.
        generator: of their starts.
        bar: which they advance.
        rivals: classes that images are driven to in turn, best first; 0 where none is turned away.
    """

    judge: Judge
    candidates: Candidates
    images: Images
    labels: Labels
    budget: Budget
    generator: Generator
    bar: Bar
    rivals: int = 0

    def attack(self, tuning: Tuning, eps: float | None = None) -> tuple[Images, Tensor]:
        """Attacked images (B, C, H, W), and which of them (B,) still stand."""
        return self._tried(partial(annealed, loss=tuning.loss), self.images, self.labels, tuning, eps)

    def trials(self, sizes: Sizes, eot: int | None) -> int:
        """How many attacks `tune`, one more with the tuning, `by_eps` and `unbounded` come to."""
        chosen = 2 + len(self._candidates(sizes, eot)) + len(sizes.steps) + 1
        return chosen + (2 + self.rivals) * (len(RADII) + 1)

    def tune(self, sizes: Sizes, eot: int | None) -> tuple[Tuning, dict[str, Any]]:
        """The tuning, and what each setting left: `by_loss`, `by_eot` and `by_steps`, in percent."""
        few = Tuning(eot or 1, sizes.steps[0])
        by_loss = {loss: self._left(replace(few, loss=loss)) for loss in ("cross_entropy", "margin")}
        worth = by_loss["margin"] < by_loss["cross_entropy"] - TOLERANCE
        few = replace(few, loss="margin" if worth else "cross_entropy")
        by_eot = {calls: self._left(replace(few, eot=calls)) for calls in self._candidates(sizes, eot)}
        few = replace(few, eot=settled(by_eot))
        by_steps = {steps: self._left(replace(few, steps=steps)) for steps in sizes.steps}
        tried = {"by_loss": by_loss, "by_eot": by_eot, "by_steps": by_steps}
        return replace(few, steps=settled(by_steps)), tried

    def by_eps(self, tuning: Tuning) -> dict[str, Tensor]:
        """Which images (B,) stand at half, all and twice the eps, by all losses together."""
        return {f"{eps:g}": self._of_all(tuning, eps) for eps in (part * self.budget.eps for part in RADII)}

    def unbounded(self, tuning: Tuning, steps: int) -> Tensor:
        """Which images (B,) stand where the attacker may draw any image, in at least so many steps."""
        everything = across(self.images[0].numel(), self.budget.norm)
        return self._of_all(replace(tuning, steps=max(tuning.steps, steps)), everything)

    def _candidates(self, sizes: Sizes, eot: int | None) -> tuple[int, ...]:
        return sizes.eot if eot is None and self.judge.target.random_surrogate else (eot or 1,)

    def _left(self, tuning: Tuning, eps: float | None = None) -> float:
        return percent(self.attack(tuning, eps)[1])

    def _of_all(self, tuning: Tuning, eps: float) -> Tensor:
        by_one, by_other = (self.attack(replace(tuning, loss=loss), eps)[1] for loss in ("cross_entropy", "margin"))
        standing = by_one & by_other
        for rank in range(self.rivals):
            if len(rows := standing.nonzero().squeeze(1)):
                driven = partial(at_rival, rank=rank)
                standing[rows] = self._tried(driven, self.images[rows], self.labels[rows], tuning, eps)[1]
        return standing

    def _tried(
        self, attack: Callable[..., Images], images: Images, labels: Labels, tuning: Tuning, eps: float | None
    ) -> tuple[Images, Tensor]:
        budget = self.budget if eps is None else Budget(self.budget.norm, eps)
        model, options = Expectation(self.candidates, tuning.eot), {"steps": tuning.steps, "generator": self.generator}
        found, _ = crafted(partial(attack, model, images, labels, budget, **options))
        self.bar.advance()
        return found, ~self.judge.broken(self.judge.confirmed(found, labels.cpu()))


def settled(accuracies: Mapping[int, float]) -> int:
    """The least setting that no other one beats by more than the tolerance."""
    least = min(accuracies.values())
    return next(setting for setting, accuracy in sorted(accuracies.items()) if accuracy <= least + TOLERANCE)


def percent(mask: Tensor) -> float:
    """The share of a mask that is true."""
    return 100 * int(mask.sum()) / mask.numel()
