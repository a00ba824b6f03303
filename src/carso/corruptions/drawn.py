"""What somebody has drawn on an image, or what covers it.

stripe    x' = 1 - x in an upright band, w of the width
lines     x' = 1 at pixels p with |(p - q)' n| < w / 2, for s pairs of q, a place in the image, and n, a direction
"""

from __future__ import annotations

import math

import torch
from torch import Generator

from carso.corruptions.chance import uniform
from carso.types import Images

BAND = (0.08, 0.12, 0.16, 0.2, 0.25)
LINES = (1, 2, 3, 4, 5)
STROKE = 1 / 28
"""Width of a line in shares of the shorter side; one pixel of a digit."""


def stripe(images: Images, severity: int, generator: Generator) -> Images:
    """A band of the negative."""
    width = images.shape[3]
    band = max(1, round(BAND[severity - 1] * width))
    first = (uniform(images, generator, 1, 1, 1) * (width - band + 1)).floor()
    at = torch.arange(width, device=images.device)
    return torch.where((at >= first) & (at < first + band), 1 - images, images)


def lines(images: Images, severity: int, generator: Generator) -> Images:
    """Straight white lines across."""
    height, width = images.shape[2:]
    down, right = torch.arange(height, device=images.device)[:, None], torch.arange(width, device=images.device)
    drawn = images
    for y, x, turn in uniform(images, generator, LINES[severity - 1], 3).permute(1, 2, 0)[..., None, None, None]:
        angle = math.pi * turn
        distance = (right - x * (width - 1)) * angle.cos() + (down - y * (height - 1)) * angle.sin()
        drawn = torch.where(distance.abs() <= STROKE * min(height, width) / 2, 1.0, drawn)
    return drawn
