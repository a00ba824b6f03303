"""Feature maps: what convolutions make of those layers of a representation that are images or maps.

    r = [a_1, ..., a_M]    m(r) = [k_1(a_1), ..., k_M(a_M)]    k_i: convolutions if a_i is (C, H, W), else the identity

Every convolution halves height and width. A neighbourhood says more than a pixel, and attacks on pixels spread less.

Sources: a purifier that reads maps by convolution is in E. Ballarin, A. Ansuini and L. Bortolussi, CARSO, 2023; the
convolutions are the small ones of E. Wong and J. Z. Kolter, Provable defenses via the convex outer adversarial
polytope, ICML 2018.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carso.types import Representations

Shape = Sequence[int]


class Maps(nn.Module):
    """Convolutions over a flattened representation.

    Args:
        shapes: of the layers that make it, without the batch, in order.
        channels: of each convolution; a map too small for all of them goes through those that fit.
    """

    def __init__(self, shapes: Sequence[Shape], channels: Sequence[int]) -> None:
        super().__init__()
        self.shapes = tuple(tuple(shape) for shape in shapes)
        self.channels = tuple(channels)
        self.layers = nn.ModuleList(convolutions(shape, channels) for shape in self.shapes)

    @property
    def features(self) -> int:
        """How many numbers come out per image."""
        return sum(features_of(shape, self.channels) for shape in self.shapes)

    def forward(self, representations: Representations) -> Float[Tensor, "batch features"]:
        """m(r) (B, features) of r (B, neurons)."""
        outputs = unflattened(representations, self.shapes)
        return torch.cat([layer(a).flatten(1) for layer, a in zip(self.layers, outputs, strict=True)], dim=1)


def unflattened(representations: Representations, shapes: Sequence[Shape]) -> list[Tensor]:
    """r (B, neurons) taken apart into its layers' outputs, each (B, *shape)."""
    parts = representations.split([math.prod(shape) for shape in shapes], dim=1)
    return [part.unflatten(1, tuple(shape)) for part, shape in zip(parts, shapes, strict=True)]


def convolutions(shape: Shape, channels: Sequence[int]) -> nn.Sequential:
    """The convolutions that fit a layer of that shape, each with its LeakyReLU."""
    layers: list[nn.Module] = []
    for entering, leaving in _steps(shape, channels):
        layers += [nn.Conv2d(entering, leaving, kernel_size=4, stride=2, padding=1), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers)


def _steps(shape: Shape, channels: Sequence[int]) -> list[tuple[int, int]]:
    """Channels before and after each convolution that fits."""
    fitting = int(math.log2(min(shape[1:]))) if len(shape) == 3 else 0
    leaving = [*shape[:1], *channels[:fitting]]
    return list(pairwise(leaving))


def features_of(shape: Shape, channels: Sequence[int]) -> int:
    """How many numbers these convolutions make of a layer of that shape."""
    steps = _steps(shape, channels)
    return steps[-1][1] * math.prod(side >> len(steps) for side in shape[1:]) if steps else math.prod(shape)
