"""Convolutions over images of few channels, which processors multiply slowly, as convolutions over blocks of pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

FEW = 4
"""Channels at most that are too few to multiply fast: an image's."""


class Unshuffled(nn.Module):
    """A convolution of `convolutions` with kernel 2 and stride 1, on blocks of 2 x 2 pixels as channels; to rounding.

        (k * x)[i] = sum_{r, a} k[2a + r] x[2(i + a) + r - 1]    in each direction; r in {0, 1} becomes a channel

    Processors multiply channels fast, and images have few: this is faster on them, gradient included.

    Args:
        convolution: kernel 4, stride 2, padding 1; its weights are those of this moment.
    """

    kernel: Tensor
    bias: Tensor | None

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        kernel = convolution.weight.detach().unflatten(3, (2, 2)).unflatten(2, (2, 2))
        kernel = kernel.permute(0, 1, 3, 5, 2, 4).flatten(1, 3).contiguous(memory_format=torch.channels_last)
        self.register_buffer("kernel", kernel)
        self.register_buffer("bias", None if convolution.bias is None else convolution.bias.detach().clone())

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch maps rows columns"]:
        """The maps (B, maps, H // 2, W // 2)."""
        even_height, even_width = (1 - side % 2 for side in images.shape[2:])
        blocks = F.pixel_unshuffle(F.pad(images, (1, even_width, 1, even_height)), 2)
        return F.conv2d(blocks.contiguous(memory_format=torch.channels_last), self.kernel, self.bias)


def first_unshuffled(layers: nn.Module) -> nn.Sequential:
    """The same convolutions to rounding, the first unshuffled if it meets few channels."""
    children = list(layers.children())
    if children and isinstance(children[0], nn.Conv2d) and children[0].in_channels <= FEW:
        children[0] = Unshuffled(children[0])
    return nn.Sequential(*children)
