"""Chance of each image, drawn on the CPU, so that every device sees the same."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from carso.types import Images


def uniform(images: Images, generator: Generator, *shape: int) -> Tensor:
    """(B, ...) uniform in [0, 1), on the images' device."""
    return torch.rand(len(images), *shape, generator=generator, dtype=images.dtype).to(images.device)


def normal(images: Images, generator: Generator, *shape: int) -> Tensor:
    """(B, ...) standard normal, on the images' device."""
    return torch.randn(len(images), *shape, generator=generator, dtype=images.dtype).to(images.device)


def sign(images: Images, generator: Generator) -> Tensor:
    """(B,) of -1 and 1, as likely as each other."""
    return (uniform(images, generator) < 0.5).to(images.dtype) * 2 - 1
