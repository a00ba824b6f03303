"""Noise of sensors and of transmission.

gaussian    x' = x + sigma n,  n ~ N(0, 1)
shot        x' = P / lambda,  P ~ Poisson(lambda x)
impulse     x' = 0 or 1, as likely as each other, with probability p; else x
"""

from __future__ import annotations

import torch
from torch import Generator

from carso.corruptions.chance import normal, uniform
from carso.types import Images

SIGMA = (0.08, 0.12, 0.18, 0.26, 0.38)
LAMBDA = (60.0, 25.0, 12.0, 5.0, 3.0)
SHARE = (0.03, 0.06, 0.09, 0.17, 0.27)


def gaussian_noise(images: Images, severity: int, generator: Generator) -> Images:
    """Noise on every value alike."""
    return images + SIGMA[severity - 1] * normal(images, generator, *images.shape[1:])


def shot_noise(images: Images, severity: int, generator: Generator) -> Images:
    """Noise of few photons: the brighter, the louder; black stays black."""
    photons = LAMBDA[severity - 1]
    return (torch.poisson(images.cpu() * photons, generator=generator) / photons).to(images.device)


def impulse_noise(images: Images, severity: int, generator: Generator) -> Images:
    """Salt and pepper, in all channels of a pixel at once."""
    drawn, half = uniform(images, generator, 1, *images.shape[2:]), SHARE[severity - 1] / 2
    return torch.where(drawn < half, 0.0, torch.where(drawn < 2 * half, 1.0, images))
