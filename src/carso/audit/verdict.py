"""A fair verdict: an attacked image counts only by votes that its attack has never seen.

    right(x')  how many of k fresh verdicts on x' are the true class          k = 10; 1 for a deterministic target
    broken     right(x') <= k / 2

Verdicts of a random target are screened: one verdict first, and all k for the images where it is wrong. Attacks that
choose among many noisy evaluations find lucky draws as well as adversarial images; fresh verdicts tell them apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carso.audit.target import Target, classes_of
from carso.types import Images, Labels

VOTES = 10


@dataclass(frozen=True)
class Judge:
    """Passes verdicts on a target.

    Args:
        target: what is judged.
        votes: k for a random target.
    """

    target: Target
    votes: int = VOTES

    @property
    def k(self) -> int:
        """Verdicts per image: 1 for a deterministic target."""
        return self.votes if self.target.random else 1

    def right(self, images: Images, labels: Labels) -> Tensor:
        """Right verdicts (B,) out of k, all of them fresh."""
        total = torch.zeros(len(images), dtype=torch.long)
        for _ in range(self.k):
            total += classes_of(self.target, images) == labels
        return total

    def screened(self, images: Images, labels: Labels) -> Tensor:
        """Right verdicts (B,) out of k, taken for k where a first verdict is right."""
        suspects = (classes_of(self.target, images) != labels).nonzero().squeeze(1)
        total = torch.full((len(images),), self.k)
        if self.k == 1:
            total[suspects] = 0
        elif len(suspects):
            total[suspects] = self.right(images[suspects], labels[suspects])
        return total

    def broken(self, right: Tensor) -> Tensor:
        """Which images (B,) count as broken, from their right verdicts."""
        return 2 * right <= self.k
