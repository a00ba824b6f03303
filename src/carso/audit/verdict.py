"""A fair verdict: an attacked image counts only by votes that its attack has never seen.

    right(x')  how many of k fresh verdicts on x' are the true class          k = 10; 1 for a deterministic target
    broken     right(x') <= k / 2

A final verdict takes all k, and alone decides. While attacks go on, an image is screened first: verdicts on a random
target are cast one after another until the first one is right, or right ones lead by 3, or wrong ones by 6, or 2 k are
cast; then `right` is their share of k. It takes more to call an image broken, since a hundred attacks ask: of an image
that is answered rightly four times in five, one of them would meet three wrong verdicts in a row. What the screen calls
broken has to be confirmed by k verdicts more, which it has not seen, and goes on being attacked if it is not. Attacks
that choose among many noisy evaluations find lucky draws as well as adversarial images; fresh verdicts tell them apart.

Source: A. Wald, "Sequential tests of statistical hypotheses", Annals of Mathematical Statistics, 1945.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from carso.audit.target import Target
from carso.evaluation.results import Rate
from carso.progress import shown
from carso.types import Images, Labels

AWAY = -1
"""The verdict of a target that turns the image away, which is never wrong."""

VOTES = 10

LEADS = (3, 6)
"""Verdicts by which right ones must lead, or wrong ones, to end the vote."""


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
        for _ in shown(range(self.k), "verdicts"):
            total += self._verdict(images, labels)
        return total

    def screened(self, images: Images, labels: Labels) -> Tensor:
        """Right verdicts (B,) in proportion to k, rounded up, of as few as decide; k where the first one is right."""
        right, cast = torch.zeros(2, len(images), dtype=torch.long).unbind()
        left = torch.arange(len(images))
        for _ in range(2 * self.k if self.target.random else 1):
            right[left] += self._verdict(images[left], labels[left])
            cast[left] += 1
            lead = 2 * right - cast
            open_ = (right < cast) & (lead < LEADS[0]) & (lead > -LEADS[1])
            left = left[open_[left]]
            if not len(left):
                break
        share: Tensor = -(-self.k * right // cast)
        return share

    def confirmed(self, images: Images, labels: Labels) -> Tensor:
        """Right verdicts (B,): a screen's, and k fresh ones on what a screen of a random target calls broken."""
        right = self.screened(images, labels)
        doubtful = self.broken(right)
        if self.target.random and doubtful.any():
            right[doubtful] = self.right(images[doubtful], labels[doubtful])
        return right

    def outvoted(self, images: Images, classes: Labels) -> Tensor:
        """Which images (B,) get one other class more often than the class named, of k fresh verdicts."""
        verdicts = torch.stack([classes_of(self.target, images) for _ in range(self.k)])
        named = ((verdicts == classes) | (verdicts == AWAY)).sum(0)
        given = F.one_hot(verdicts.clamp_min(0), self.target.classes) * (verdicts != AWAY).unsqueeze(2)
        return given.sum(0).scatter(1, classes.unsqueeze(1), 0).amax(1) > named

    def broken(self, right: Tensor) -> Tensor:
        """Which images (B,) count as broken, from their right verdicts."""
        return 2 * right <= self.k

    def _verdict(self, images: Images, labels: Labels) -> Tensor:
        answers = classes_of(self.target, images)
        return (answers == labels) | (answers == AWAY)


def rate(right: Tensor) -> Rate:
    """The rate of the images (n,) that are right."""
    return Rate.of(int(right.sum()), len(right))


def classes_of(target: Target, images: Images) -> Labels:
    """One verdict (B,) on the CPU, with fresh randomness."""
    with torch.no_grad():
        return target.answer(images.to(target.device)).cpu()
