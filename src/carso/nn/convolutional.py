"""The networks of a purifier of colour images: what compresses maps and images, and what draws images.

    k_i(a_i)     compressor of a layer's maps: blocks of 3 x 3 convolution, batch norm, LeakyReLU, halving the channels
    I(x)         compressor of the image: two such blocks that halve height and width
    D(z, c)      a linear map of [z, c] to small maps, transposed convolutions that double height and width, sigmoid

As published for 3 x 32 x 32 and 3 x 64 x 64: compressors without padding, three blocks, four from 64 pixels a side on.
The other rule, "bounded", halves height and width until a layer is at most 4 pixels a side and has an eighth of its
channels, so that the linear map to the code stays small.

Where the image itself is a layer, it may be read by a residual network of its own instead (`residual`): halving three
channels leaves nothing to see with.

Source: the published code of E. Ballarin, A. Ansuini and L. Bortolussi, CARSO, 2023; how its decoder meets sizes other
than these two is ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carso.nn.maps import unflattened
from carso.nn.modes import evaluating
from carso.nn.resnet import Block
from carso.types import Representations

Shape = Sequence[int]
Compression = Literal["published", "bounded"]

SLOPE = 0.2
"""Of LeakyReLU."""

SMALL = 4
"""Pixels a side at which the bounded rule stops halving."""

CHANNELS, LEAST = 256, 32
"""Of the decoder's smallest maps and of its largest."""


class Compressor(nn.Module):
    """Convolutions over those layers of a flattened representation that are maps; flat layers pass.

    Args:
        shapes: of the layers that make it, without the batch, in order.
        rule: "published" or "bounded".
        side: height or width of the images, the smaller.
        image: shape of the images, and the channels of the residual groups that read a layer of that shape; None to
            compress it like any other.

    `features` says how many numbers come out per image.
    """

    def __init__(
        self, shapes: Sequence[Shape], rule: Compression, side: int, image: tuple[Shape, Shape] | None = None
    ) -> None:
        super().__init__()
        self.shapes, self.rule, self.side = tuple(tuple(shape) for shape in shapes), rule, side
        blocks, (seen, widths) = 3 if side < 64 else 4, image or ((), ())
        self.layers = nn.ModuleList(
            residual(shape, widths) if shape == tuple(seen) else _compressor(shape, rule, blocks)
            for shape in self.shapes
        )
        self.features = sum(_features(layer, shape) for layer, shape in zip(self.layers, self.shapes, strict=True))

    def forward(self, representations: Representations) -> Float[Tensor, "batch features"]:
        """(B, neurons) to (B, features)."""
        outputs = unflattened(representations, self.shapes)
        return torch.cat([layer(a).flatten(1) for layer, a in zip(self.layers, outputs, strict=True)], dim=1)


@torch.no_grad()
def _features(layer: nn.Module, shape: Shape) -> int:
    with evaluating(layer):
        return int(layer(torch.zeros(1, *shape)).numel())


def _compressor(shape: Shape, rule: Compression, blocks: int) -> nn.Sequential:
    """The blocks that fit a layer of that shape; none for one that is flat."""
    if len(shape) != 3:
        return nn.Sequential()
    return _without_padding(shape, blocks) if rule == "published" else _halving(shape)


def _without_padding(shape: Shape, blocks: int) -> nn.Sequential:
    channels, *sides = shape
    fitting = min(blocks, (min(sides) - 1) // 2)
    widths = [channels, *(math.ceil(channels / 2**i) for i in range(1, fitting + 1))]
    return nn.Sequential(*chain.from_iterable(block(*pair) for pair in pairwise(widths)))


def _halving(shape: Shape) -> nn.Sequential:
    channels, *sides = shape
    halvings = max(0, math.ceil(math.log2(max(sides) / SMALL)))
    widths = [channels, *(math.ceil(channels / 2 ** min(i, 3)) for i in range(1, max(3, halvings) + 1))]
    strides = [2] * halvings + [1] * max(0, 3 - halvings)
    blocks = (block(*pair, stride, 1) for pair, stride in zip(pairwise(widths), strides, strict=True))
    return nn.Sequential(*chain.from_iterable(blocks))


def residual(shape: Shape, widths: Sequence[int]) -> nn.Sequential:
    """A pre-activation residual network without its last linear map: one block for each width, halving but the first.

    What comes out is at most `SMALL` pixels a side.
    """
    stem = nn.Conv2d(shape[0], widths[0], 3, 1, 1, bias=False)
    pairs = zip([widths[0], *widths], widths, strict=False)
    blocks = (Block(entering, leaving, 2 if i else 1, nn.ReLU) for i, (entering, leaving) in enumerate(pairs))
    height, width = (min(SMALL, math.ceil(side / 2 ** (len(widths) - 1))) for side in shape[1:])
    return nn.Sequential(stem, *blocks, nn.BatchNorm2d(widths[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d((height, width)))


def block(entering: int, leaving: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    """3 x 3 convolution without bias, batch norm, LeakyReLU."""
    convolution = nn.Conv2d(entering, leaving, 3, stride, padding, bias=False)
    return [convolution, nn.BatchNorm2d(leaving), nn.LeakyReLU(SLOPE)]


def image_compressor(shape: Shape) -> nn.Sequential:
    """I: a flattened image (B, pixels) to (B, features), twice and four times its channels behind two strides."""
    channels = shape[0]
    first, second = block(channels, 2 * channels, 2, 1), block(2 * channels, 4 * channels, 2, 1)
    return nn.Sequential(nn.Unflatten(1, tuple(shape)), *first, *second, nn.Flatten())


def linear_block(entering: int, leaving: int) -> nn.Sequential:
    """A linear map without bias, batch norm, LeakyReLU."""
    return nn.Sequential(nn.Linear(entering, leaving, bias=False), nn.BatchNorm1d(leaving), nn.LeakyReLU(SLOPE))


def decoder(entering: int, shape: Shape) -> nn.Sequential:
    """D: [z, c] (B, entering) to images (B, C, H, W) in (0, 1)."""
    channels, *sides = shape
    doublings = max(4, math.ceil(math.log2(max(sides) / 4)))
    small = [max(3, math.ceil(side / 2**doublings)) for side in sides]
    odd = all((side_0 - 1) * 2**doublings + 1 >= side for side_0, side in zip(small, sides, strict=True))
    layers: list[nn.Module] = [nn.Linear(entering, CHANNELS * math.prod(small)), nn.LeakyReLU(SLOPE)]
    layers.append(nn.Unflatten(1, (CHANNELS, *small)))
    width = CHANNELS
    for i in range(doublings):
        leaving = max(LEAST, CHANNELS // 2**i)
        layers += [nn.ConvTranspose2d(width, leaving, 3, 2, 1, output_padding=0 if odd else 1, bias=False)]
        layers += [nn.BatchNorm2d(leaving), nn.LeakyReLU(SLOPE)]
        width = leaving
    return nn.Sequential(*layers, nn.Conv2d(width, channels, 3, 1, 1), Cropped(sides), nn.Sigmoid())


class Cropped(nn.Module):
    """The upper left part of maps.

    Args:
        sides: height and width of that part.
    """

    def __init__(self, sides: Sequence[int]) -> None:
        super().__init__()
        self.sides = tuple(sides)

    def forward(self, maps: Float[Tensor, "batch channels rows columns"]) -> Tensor:
        """(B, C, rows, columns) to (B, C, H, W)."""
        height, width = self.sides
        return maps[:, :, :height, :width]
