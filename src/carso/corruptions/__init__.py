"""Corruptions: what happens to images without anyone meaning it, in five strengths.

    x' = C_s(x; u)    s = 1..5 the severity, u the chance of each image, clamped to [0, 1]

They are those of D. Hendrycks and T. Dietterich, Benchmarking neural network robustness to common corruptions and
perturbations, ICLR 2019, and of N. Mu and J. Gilmer, MNIST-C: a robustness benchmark for computer vision, 2019, as far
as they need no other picture and no codec. The code and its strengths are ours, for images of any size, in shares of
the side, so that figures are comparable with each other and not with those of the published files.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator

from carso.corruptions.blur import gaussian_blur, motion_blur
from carso.corruptions.drawn import lines, stripe
from carso.corruptions.light import brightness, contrast, fog
from carso.corruptions.noise import gaussian_noise, impulse_noise, shot_noise
from carso.corruptions.warp import elastic, rotate, scale, shear, translate
from carso.types import Images, Severity, check_images

CORRUPTIONS: dict[str, Callable[[Images, int, Generator], Images]] = {
    "gaussian-noise": gaussian_noise,
    "shot-noise": shot_noise,
    "impulse-noise": impulse_noise,
    "gaussian-blur": gaussian_blur,
    "motion-blur": motion_blur,
    "brightness": brightness,
    "contrast": contrast,
    "fog": fog,
    "stripe": stripe,
    "lines": lines,
    "rotate": rotate,
    "shear": shear,
    "scale": scale,
    "translate": translate,
    "elastic": elastic,
}
"""Every corruption by its name: images (B, C, H, W) in [0, 1], severity, chance -> images of the same shape."""

__all__ = ["CORRUPTIONS", "corrupt"]


@torch.no_grad()
def corrupt(images: Images, name: str, severity: int, generator: Generator | None = None) -> Images:
    """Corrupted images.

    Args:
        images: (B, C, H, W) in [0, 1].
        name: one of `CORRUPTIONS`.
        severity: 1 (mild) to 5.
        generator: of what chance decides, drawn on the CPU for each image; torch's own by default.

    Returns:
        (B, C, H, W) in [0, 1].

    Raises:
        DataError: if the images are not (B, C, H, W) in [0, 1].
        ValueError: if there is no such corruption or severity.
    """
    check_images(images)
    if name not in CORRUPTIONS:
        raise ValueError(f"no corruption {name!r}; there are {', '.join(CORRUPTIONS)}")
    level = Severity(severity).eps
    return CORRUPTIONS[name](images, level, generator or torch.default_generator).clamp(0, 1)
