"""Blur of lenses and of motion.

    gaussian    x' = x * g,  g a Gaussian of deviation sigma
    motion      x' = 1/T sum_t x(. + t v),  t evenly in [-1/2, 1/2], v of length l in a direction that chance decides

sigma and l in shares of the shorter side; beyond the edge an image goes on as at the edge.
"""

from __future__ import annotations

import math

import torch
from torch import Generator

from carso.corruptions.chance import uniform
from carso.corruptions.smoothing import smoothed
from carso.corruptions.warp import moved
from carso.types import Images

SIGMA = (0.02, 0.035, 0.05, 0.07, 0.1)
LENGTH = (0.1, 0.15, 0.2, 0.3, 0.4)
STEPS = 16


def gaussian_blur(images: Images, severity: int, generator: Generator) -> Images:
    """Out of focus."""
    return smoothed(images, SIGMA[severity - 1] * min(images.shape[2:]))


def motion_blur(images: Images, severity: int, generator: Generator) -> Images:
    """The camera moved, in any direction."""
    angles = math.pi * uniform(images, generator)
    length = LENGTH[severity - 1] * min(images.shape[2:])
    along = torch.stack([angles.cos(), angles.sin()], dim=1) * length
    places = torch.linspace(-0.5, 0.5, STEPS).tolist()
    return torch.stack([moved(images, t * along) for t in places]).mean(0)
