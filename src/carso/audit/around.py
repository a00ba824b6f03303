"""Slopes over some distance, for targets whose own slope holds over none.

    grad E_u f(x + u),    u uniform in [-r, r]^d,    r = w / 30 and w / 10,    w = eps d^(-1/p)

    f    the target's candidates: logits
    w    the change of each of d pixels alike that the ball of norm p holds; infinite p: eps

A ripple, a threshold or a winner-take-all in a network gives true gradients that lead nowhere: they change within a
fraction of an attack's step. What is averaged over points around the image has the slope that a step meets.

Source: F. Tramer et al., "On adaptive attacks to adversarial example defenses", NeurIPS 2020, section 5, on k-winners
take all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carso.attacks.budget import across
from carso.attacks.eot import Candidates
from carso.fast import batch_of
from carso.types import Budget

SHARES = (1 / 30, 1 / 10)
"""Of w, how far points are drawn."""


def distances(budget: Budget, pixels: int) -> tuple[float, ...]:
    """The radii r, for images of so many pixels."""
    alike = budget.eps / across(pixels, budget.norm)
    return tuple(share * alike for share in SHARES)


@dataclass(frozen=True)
class Around:
    """Candidates of points drawn anew around the image, one of each.

    Args:
        candidates: (images, K) -> logits (B, K, classes).
        distance: r, in units of the [0, 1] pixel.
    """

    candidates: Candidates
    distance: float
    varies = True

    @property
    def batch(self) -> int | None:
        """That of its candidates (see `batch_of` of `carso.fast`)."""
        return batch_of(self.candidates)

    def __call__(self, images: Tensor, samples: int) -> Tensor:
        """Logits (B, K, classes), differentiable in images (B, C, H, W)."""
        drawn = images.repeat_interleave(samples, 0)
        moved = drawn + self.distance * (2 * torch.rand_like(drawn) - 1)
        answers = self.candidates(moved.clamp(0, 1), 1).squeeze(1)
        return answers.reshape(len(images), samples, -1)
