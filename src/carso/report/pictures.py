"""Images as PNG data URIs, so that the page is one file."""

from __future__ import annotations

import base64
import io

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

LARGEST = 128
"""Pixels a side at most; they are shown smaller."""

WARM, COLD = (222, 98, 18), (32, 104, 214)


def picture(image: Tensor) -> str:
    """One image (C, H, W), floats in [0, 1] or bytes; one channel is grey, three colours. Large ones are averaged."""
    return _png(_pixels(image))


def strip(images: Tensor, gap: int = 2) -> str:
    """Images (k, C, H, W) side by side, with a transparent gap between them."""
    mode = "LA" if images.shape[1] == 1 else "RGBA"
    parts = [np.asarray(Image.fromarray(_pixels(image)).convert(mode)) for image in images]
    between = np.zeros((parts[0].shape[0], gap, len(mode)), np.uint8)
    return _png(np.concatenate([piece for part in parts for piece in (part, between)][:-1], axis=1))


def signed(perturbation: Tensor) -> str:
    """A perturbation (C, H, W), the largest change opaque: warm where it brightens, cold where it darkens.

    Of what makes a pixel of a large one, the largest change is shown.
    """
    change = perturbation.float().mean(0)
    if (every := _every(change)) > 1:
        up, down = (F.max_pool2d(sign * change[None], every, ceil_mode=True)[0] for sign in (1, -1))
        change = torch.where(up > down, up, -down)
    strength = change.abs() / change.abs().max().clamp_min(1e-12)
    colours = torch.where(change.unsqueeze(2) > 0, change.new_tensor(WARM), change.new_tensor(COLD))
    opacity = (255 * strength).round().unsqueeze(2)
    return _png(torch.cat([colours, opacity], dim=2).byte().numpy())


def _pixels(image: Tensor) -> NDArray[np.uint8]:
    values = image if image.dtype == torch.uint8 else 255 * image
    if (every := _every(values)) > 1:
        values = F.avg_pool2d(values.float(), every, ceil_mode=True, count_include_pad=False)
    values = values if values.dtype == torch.uint8 else values.round().byte()
    pixels: NDArray[np.uint8] = values.permute(1, 2, 0).numpy()
    return pixels[:, :, 0] if pixels.shape[2] == 1 else pixels[:, :, :3]


def _every(image: Tensor) -> int:
    """How many pixels a side of an image (..., H, W) make one that is shown."""
    return -(-max(image.shape[-2:]) // LARGEST)


def _png(pixels: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
