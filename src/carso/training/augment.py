"""Images moved at random before they are learnt from: shifts of a few pixels, and mirror images.

    x'_{c, i, j} = x_{c, i + a, j + b}  with a, b uniform in -s..s, zero outside;  half of the images mirrored in j

Source: the shifts and mirror images with which residual networks are trained on CIFAR-10, after C. Lee et al., "Deeply
supervised nets", AISTATS 2015.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from carso.processes.dealing import drawn
from carso.types import Images


def moved(images: Images, shift: int = 0, flip: bool = False) -> Images:
    """Images (B, C, H, W), each with a shift and a reflection of its own; no wait for the device.

    Args:
        images: (B, C, H, W) in [0, 1].
        shift: s, pixels at most in each direction.
        flip: whether half of them are mirrored left to right.
    """
    if flip:
        mirrored = drawn(lambda rows: torch.rand(rows, 1, 1, 1, device=images.device), len(images)) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
    if shift:
        at = partial(torch.randint, -shift, shift + 1, device=images.device)
        offsets = drawn(lambda rows: at((2, rows)), len(images), axis=1)
        images = shifted(images, offsets, shift)
    return images


def shifted(images: Images, offsets: Int[Tensor, "two batch"], most: int) -> Images:
    """Images (B, C, H, W) seen through a window moved down and right by `offsets` (2, B), in -most..most."""
    batch, _, height, width = images.shape
    down, right = (most + offsets).unsqueeze(2)
    rows = down + torch.arange(height, device=images.device)
    columns = right + torch.arange(width, device=images.device)
    which = torch.arange(batch, device=images.device).view(-1, 1, 1)
    padded = F.pad(images, (most,) * 4)
    return padded[which, :, rows.unsqueeze(2), columns.unsqueeze(1)].permute(0, 3, 1, 2).contiguous()
