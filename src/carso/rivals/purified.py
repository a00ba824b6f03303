"""A purifier before a classifier: the form of every rival that cleans the image first.

    f(x) = N(g(x))        g: images to images of the same shape, N: a classifier that is left as it is

Such a rival shows its parts, `purify` and `classifier`, so that an attacker may take g for the identity (BPDA).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

from carso.nn import evaluating, query
from carso.nn.chance import home
from carso.nn.querying import as_taken
from carso.types import Candidates, Images, Labels, Logits, check_images


class Purified(nn.Module, ABC):
    """N behind g; both run in eval mode and are left in the mode they are in.

    Args:
        classifier: N, images (B, C, H, W) in [0, 1] to logits (B, classes).
    """

    attackers: tuple[str, ...] = ()
    """Names of the parts that only an attacker has, for `surrogate`; they count for nothing in the defence."""

    input_dtype = torch.float32
    """What it takes, in whatever dtype its modules compute."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Images, generator: torch.Generator | None = None) -> Logits:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1].

        Args:
            images: (B, C, H, W) in [0, 1].
            generator: source of the purifier's randomness, if it has any; `None` for torch's own.
        """
        with evaluating(self):
            return query(self.classifier, self.purify(images, generator))

    def purify(self, images: Images, generator: torch.Generator | None = None) -> Images:
        """g: images (B, C, H, W) in [0, 1] to images of the same shape and dtype in [0, 1].

        Raises:
            DataError: if they are no such images, or not of the shape that g was made for.
        """
        taken = self._taken(images)
        with evaluating(self):
            return self._purified(taken, generator).to(images.dtype)

    def _taken(self, images: Images) -> Images:
        """The images in the dtype of g's first module, and held to the shape that it says it has."""
        first = next(module for name, module in self.named_children() if name != "classifier")
        check_images(images, getattr(first, "shape", None))
        return as_taken(first, images)

    @abstractmethod
    def _purified(self, images: Images, generator: torch.Generator | None) -> Images:
        """g, in eval mode."""


def of_each(candidates: Candidates, which: Labels) -> Images:
    """Candidate `which` (B,) of each image, of candidates (B, K, C, H, W)."""
    return candidates[torch.arange(len(which), device=which.device), which]


def normal(*shape: int, like: Images, generator: torch.Generator | None = None) -> torch.Tensor:
    """Draws from N(0, I) of that shape, made where the generator lives, and handed on where `like` does."""
    source = home(generator, like.device)
    return torch.randn(shape, generator=generator, device=source, dtype=torch.float32).to(like.device)
