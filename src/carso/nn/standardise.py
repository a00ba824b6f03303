"""Standardisation as the first layer of a classifier, so that its inputs stay images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

MNIST_MEAN, MNIST_STD = (0.1307,), (0.3081,)
"""Of MNIST's training images, rounded as is usual."""


class Standardise(nn.Module):
    """(x - mean) / std, per channel.

    Args:
        mean: one value per channel, in units of the [0, 1] image.
        std: one positive value per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float] = MNIST_MEAN, std: Sequence[float] = MNIST_STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] to standardised ones of the same shape."""
        return (images - self.mean) / self.std
