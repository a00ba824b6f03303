"""A small U-Net that knows the time: the denoiser of a diffusion model.

    h_i     = block_i(down(h_{i-1}), t)              halving height and width, doubling the channels once
    u_{i-1} = block'_i([up(u_i), h_{i-1}], t)        on the way back, beside what passed by
    block:    h + conv(act(norm(conv(act(norm(h))) + W t)))

The time enters by sines and cosines of it, at frequencies spaced evenly on a logarithmic scale.

Sources: O. Ronneberger, P. Fischer and T. Brox, U-Net: convolutional networks for biomedical image segmentation, MICCAI
2015; J. Ho, A. Jain and P. Abbeel, Denoising diffusion probabilistic models, NeurIPS 2020, without attention.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carso.types import Images, Labels

GROUPS = 8
"""Of group norm, at most."""


class UNet(nn.Module):
    """Images (B, C, H, W) and times (B,) to maps of the images' shape.

    Args:
        channels: of the images.
        width: channels of the largest maps; all smaller ones have twice as many.
        levels: how often height and width are halved.

    Raises:
        ValueError: if the width is odd.
    """

    def __init__(self, channels: int, width: int = 32, levels: int = 2) -> None:
        super().__init__()
        if width < 2 or width % 2:
            raise ValueError(f"width must be even, half for sines and half for cosines of the time, not {width}")
        widths = [width, *[2 * width] * levels]
        self.width = width
        self.time = nn.Sequential(nn.Linear(width, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        self.first = Block(width, width, 4 * width)
        self.down = nn.ModuleList(nn.Conv2d(a, a, 3, stride=2, padding=1) for a, _ in pairwise(widths))
        self.descending = nn.ModuleList(Block(a, b, 4 * width) for a, b in pairwise(widths))
        self.ascending = nn.ModuleList(Block(a + b, b, 4 * width) for a, b in pairwise(reversed(widths)))
        self.last = nn.Sequential(_norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, images: Images, times: Labels) -> Images:
        """(B, C, H, W) at times (B,), whole numbers."""
        time = self.time(waves(times, self.width).to(images.dtype))
        passed = [self.first(self.stem(images), time)]
        for down, block in zip(self.down, self.descending, strict=True):
            passed.append(block(down(passed[-1]), time))
        h = passed.pop()
        for block, beside in zip(self.ascending, reversed(passed), strict=True):
            h = block(torch.cat([F.interpolate(h, size=beside.shape[2:]), beside], 1), time)
        maps: Images = self.last(h)
        return maps


class Block(nn.Module):
    """A residual block with group norm, told the time.

    Args:
        entering: channels that come in.
        leaving: channels that go out.
        time: numbers that tell the time.
    """

    def __init__(self, entering: int, leaving: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(entering), nn.Conv2d(entering, leaving, 3, padding=1)
        self.time = nn.Linear(time, leaving)
        self.norm2, self.conv2 = _norm(leaving), nn.Conv2d(leaving, leaving, 3, padding=1)
        self.shortcut = nn.Conv2d(entering, leaving, 1) if entering != leaving else nn.Identity()

    def forward(self, h: Tensor, time: Tensor) -> Tensor:
        """(B, entering, H, W) to (B, leaving, H, W)."""
        inner = self.conv1(F.silu(self.norm1(h))) + self.time(time)[:, :, None, None]
        out: Tensor = self.conv2(F.silu(self.norm2(inner))) + self.shortcut(h)
        return out


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def waves(times: Labels, numbers: int) -> Tensor:
    """Times (B,) as sines and cosines (B, numbers), of periods from 2 pi to 20,000 pi."""
    half = numbers // 2
    powers = torch.arange(half, device=times.device, dtype=torch.float32) / max(1, half - 1)
    angles = times.unsqueeze(1) * 10_000.0**-powers
    return torch.cat([angles.sin(), angles.cos()], 1)
