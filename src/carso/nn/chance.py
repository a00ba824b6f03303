"""Chance: draws are made where their generator lives, so that one generator gives every device the same."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor


def home(generator: Generator | None, device: torch.device) -> torch.device:
    """Where draws are made: where the generator lives, else on the device."""
    return device if generator is None else generator.device


def signs(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """-1 and 1 of that shape, as likely as each other, in the dtype of `like` and where it lives."""
    bits = torch.randint(2, tuple(shape), generator=generator, device=home(generator, like.device))
    return (2 * bits - 1).to(like)
