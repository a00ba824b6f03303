"""Light and weather.

    brightness    x' = x + b
    contrast      x' = m + c (x - m),  m the mean of the image
    fog           x' = (x + f F) max(x) / (max(x) + f),  F in [0, 1] of power |k|^-2 beta at each frequency k

Source of the fog: A. Fournier, D. Fussell and L. Carpenter, Computer rendering of stochastic models, 1982 (plasma), in
the frequency domain.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from carso.corruptions.chance import normal
from carso.types import Images

ADDED = (0.1, 0.2, 0.3, 0.4, 0.5)
KEPT = (0.75, 0.6, 0.45, 0.3, 0.15)
FOG, BETA = (0.5, 0.75, 1.0, 1.5, 2.0), 1.5


def brightness(images: Images, severity: int, generator: Generator) -> Images:
    """Overexposed."""
    return images + ADDED[severity - 1]


def contrast(images: Images, severity: int, generator: Generator) -> Images:
    """Faded towards the mean."""
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return mean + KEPT[severity - 1] * (images - mean)


def fog(images: Images, severity: int, generator: Generator) -> Images:
    """Behind drifting white."""
    brightest = images.amax(dim=(1, 2, 3), keepdim=True)
    amount = FOG[severity - 1]
    return (images + amount * plasma(images, generator).to(images.dtype)) * brightest / (brightest + amount)


def plasma(images: Images, generator: Generator) -> Tensor:
    """Clouds F (B, 1, H, W), from 0 to 1, in float32."""
    height, width = images.shape[2:]
    if not len(images):
        return images.new_zeros(0, 1, height, width, dtype=torch.float32)
    like: Any = {"device": images.device, "dtype": torch.float32}
    down, right = torch.fft.fftfreq(height, **like), torch.fft.rfftfreq(width, **like)
    frequency = torch.hypot(down[:, None], right)
    frequency[0, 0] = torch.inf
    spectrum = torch.fft.rfft2(normal(images, generator, 1, height, width).float()) * frequency**-BETA
    clouds = torch.fft.irfft2(spectrum, s=(height, width))
    low, high = clouds.amin(dim=(2, 3), keepdim=True), clouds.amax(dim=(2, 3), keepdim=True)
    scaled: Tensor = (clouds - low) / (high - low).clamp_min(torch.finfo(clouds.dtype).tiny)
    return scaled
