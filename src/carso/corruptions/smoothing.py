"""Smoothing: maps * g, g a Gaussian of deviation sigma, cut off at three of them; beyond the edge as at the edge."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def smoothed(maps: Tensor, sigma: float) -> Tensor:
    """Maps (B, C, H, W) convolved with a Gaussian of deviation sigma pixels, cut off at three of them."""
    reach = max(1, math.ceil(3 * sigma))
    at = torch.arange(-reach, reach + 1, dtype=maps.dtype, device=maps.device)
    kernel = (-(at**2) / (2 * sigma**2)).exp()
    kernel = (kernel / kernel.sum()).expand(maps.shape[1], 1, -1)
    for edges, weight in (((reach, reach, 0, 0), kernel[:, :, None]), ((0, 0, reach, reach), kernel[..., None])):
        maps = F.conv2d(F.pad(maps, edges, mode="replicate"), weight, groups=maps.shape[1])
    return maps
