"""Warps: every pixel is read elsewhere, between pixels linearly; beyond the edge an image goes on as at the edge.

    x'(p) = x(A p + b)       affine: rotation, shear, scale, translation, about the centre
    x'(p) = x(p + a d(p))    elastic: d a random field, smoothed, of unit deviation

p in pixels, shifts in shares of the shorter side. Signs, directions and fields are each image's own.

Source of the elastic one: P. Simard, D. Steinkraus and J. Platt, Best practices for convolutional neural networks
applied to visual document analysis, ICDAR 2003.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from carso.corruptions.chance import normal, sign, uniform
from carso.corruptions.smoothing import smoothed
from carso.types import Images

DEGREES = (6.0, 12.0, 18.0, 24.0, 30.0)
SHEAR = (0.1, 0.2, 0.3, 0.4, 0.5)
SCALE = (1.1, 1.2, 1.3, 1.4, 1.5)
SHIFT = (0.02, 0.04, 0.06, 0.08, 0.1)
STRETCH, SMOOTH = (0.01, 0.02, 0.03, 0.04, 0.05), 0.1


def rotate(images: Images, severity: int, generator: Generator) -> Images:
    """Turned, one way or the other."""
    degrees = sign(images, generator) * DEGREES[severity - 1]
    return posed(images, degrees, degrees.new_zeros(len(degrees), 2))


def shear(images: Images, severity: int, generator: Generator) -> Images:
    """Slanted, one way or the other."""
    slants = sign(images, generator) * SHEAR[severity - 1]
    one, zero = torch.ones_like(slants), torch.zeros_like(slants)
    return _read(images, _mapped(_matrices(one, slants, zero, one), _places(images)))


def scale(images: Images, severity: int, generator: Generator) -> Images:
    """Larger or smaller."""
    factors = torch.as_tensor(SCALE[severity - 1], dtype=images.dtype) ** sign(images, generator)
    return _read(images, _mapped(_matrices(factors, 0 * factors, 0 * factors, factors), _places(images)))


def translate(images: Images, severity: int, generator: Generator) -> Images:
    """Elsewhere, in any direction."""
    angles = 2 * math.pi * uniform(images, generator)
    return moved(images, torch.stack([angles.cos(), angles.sin()], 1) * SHIFT[severity - 1] * min(images.shape[2:]))


def elastic(images: Images, severity: int, generator: Generator) -> Images:
    """Dented, as by an unsteady hand."""
    side = min(images.shape[2:])
    field = smoothed(normal(images, generator, 2, *images.shape[2:]), SMOOTH * side)
    field = field / field.flatten(1).std(1).view(-1, 1, 1, 1)
    return _read(images, _places(images) + STRETCH[severity - 1] * side * field.permute(0, 2, 3, 1))


def posed(images: Images, degrees: Tensor, by: Tensor) -> Images:
    """Each image (B, C, H, W) rotated about its centre, then moved.

    Args:
        images: (B, C, H, W).
        degrees: (B,), counter-clockwise.
        by: pixels to the right and down (B, 2).
    """
    angles = degrees.to(images) * math.pi / 180
    turn = _matrices(angles.cos(), -angles.sin(), angles.sin(), angles.cos())
    return _read(images, _mapped(turn, _places(images) - by.to(images)[:, None, None]))


def moved(images: Images, by: Tensor) -> Images:
    """Each image (B, C, H, W) moved by its own pixels to the right and down (B, 2)."""
    return posed(images, torch.zeros_like(by[:, 0]), by)


def _mapped(matrices: Tensor, places: Tensor) -> Tensor:
    """A p of places p (B, H, W, 2), by each image's own A (B, 2, 2)."""
    return torch.einsum("bij,bhwj->bhwi", matrices, places)


def _matrices(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    return torch.stack([torch.stack([a, b], 1), torch.stack([c, d], 1)], 1)


def _places(images: Images) -> Tensor:
    """Where each pixel lies (B, H, W, 2), from the centre, in pixels to the right and down."""
    down, right = (
        torch.arange(size, dtype=images.dtype, device=images.device) - (size - 1) / 2 for size in images.shape[2:]
    )
    places = torch.stack(torch.meshgrid(right, down, indexing="xy"), dim=2)
    return places.expand(len(images), -1, -1, -1)


def _read(images: Images, places: Tensor) -> Images:
    """The images (B, C, H, W) at places (B, H, W, 2), in pixels from the centre."""
    height, width = images.shape[2:]
    scaled = 2 * places / torch.tensor([width, height], dtype=images.dtype, device=images.device)
    return F.grid_sample(images, scaled, mode="bilinear", padding_mode="border", align_corners=False)
