"""Votes over random versions of an image: what test-time augmentation and randomised smoothing have in common.

    v_k = #{i : argmax N(T_i(x)) = k},  i = 1..K      T_i: transformations drawn at random, shared by a call's images

The vote has no gradient. What an attacker differentiates in its place (`surrogate`) is what N says of one version; who
calls it often has the expectation over transformations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from carso.nn import evaluating, query
from carso.progress import track
from carso.recall import PIXELS, classify
from carso.types import Counts, Images, Logits, at_least_one, check_images
from carso.vote import count


class Voted(nn.Module, ABC):
    """The shares of a vote; N runs in eval mode and is left in the mode it is in.

    Args:
        classifier: N, images (B, C, H, W) in [0, 1] to logits (B, classes).
        samples: K.

    Raises:
        ValueError: if samples is less than 1.
    """

    input_dtype = torch.float32
    """What it takes, in whatever dtype its modules compute."""

    def __init__(self, classifier: nn.Module, samples: int) -> None:
        super().__init__()
        at_least_one(samples=samples)
        self.classifier, self.samples = classifier, samples

    def extra_repr(self) -> str:
        """How it votes."""
        return f"samples={self.samples}"

    def forward(self, images: Images, generator: torch.Generator | None = None) -> Logits:
        """Shares of the votes (B, classes) of images (B, C, H, W) in [0, 1]; they have no gradient.

        Args:
            images: (B, C, H, W) in [0, 1].
            generator: source of the transformations; `None` for torch's own. A seed gives one answer for any batch.
        """
        return self.votes(images, self.samples, generator).float() / self.samples

    @torch.no_grad()
    def votes(self, images: Images, samples: int, generator: torch.Generator | None = None) -> Counts:
        """Votes per class (B, classes) of so many versions; each row sums to their number.

        Raises:
            ValueError: if samples is less than 1.
        """
        check_images(images)
        at_least_one(samples=samples)
        most = max(1, PIXELS // max(1, images.numel()))
        with evaluating(self.classifier):
            firsts = track(range(0, samples, most), "votes of versions")
            parts = [self._votes(images, min(most, samples - first), generator) for first in firsts]
        return torch.stack(parts).sum(0)

    def _votes(self, images: Images, samples: int, generator: torch.Generator | None) -> Counts:
        versions = torch.stack([self.version(images, generator) for _ in range(samples)], 1)
        return count(classify(self.classifier, versions))

    def surrogate(self, images: Images) -> Logits:
        """N's logits (B, classes) on one random version, differentiable in the images."""
        check_images(images)
        with evaluating(self.classifier):
            return query(self.classifier, self.version(images))

    @abstractmethod
    def version(self, images: Images, generator: torch.Generator | None = None) -> Images:
        """T(x) (B, C, H, W) of images of that shape for one T."""
