"""Convolutions over images of few channels, which processors multiply slowly, in forms that they multiply fast."""

from __future__ import annotations

from itertools import product
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

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


class Opening(nn.Module):
    """A network's first convolution, over few channels; in bfloat16, it loses no small step of an image.

        x = h + l,    h = bf16(x),    l = bf16(x - h),    k * x = [k, k] * [h, l]
        (dL/dx)[j] = sum_{s i + a = j} sum_o k[o, a] (dL/dy)[o, i]        a: places of the kernel, s: stride, o: maps

    The gradient is one product of matrices and a sum of shifted planes: processors convolve to few channels slowly.

    Args:
        convolution: one that `opens`; its weights are those of this moment.
        dtype: of products and maps, float32 or bfloat16.
    """

    weight: Tensor
    kernel: Tensor
    bias: Tensor | None

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        weight = convolution.weight.detach().to(dtype)
        kernel = torch.cat([weight, weight], 1) if dtype is torch.bfloat16 else weight
        self.register_buffer("weight", weight)
        self.register_buffer("kernel", kernel.contiguous(memory_format=torch.channels_last))
        self.register_buffer("bias", None if convolution.bias is None else convolution.bias.detach().to(dtype))
        self.stride, self.padding = convolution.stride, convolution.padding

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch maps rows columns"]:
        """The maps of images in float32."""
        made: Tensor = _Opening.apply(images, self.weight, self.kernel, self.bias, self.stride, self.padding)  # type: ignore[no-untyped-call]
        return made


class _Opening(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        weight: Tensor,
        kernel: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.shape, ctx.stride, ctx.padding = images.shape, stride, padding
        return F.conv2d(_halves(images) if weight.dtype is torch.bfloat16 else images, kernel, bias, stride, padding)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (batch, channels, height, width) = ctx.saved_tensors, ctx.shape
        (down, across), (above, beside) = ctx.stride, ctx.padding
        rows, columns = slope.shape[2:]
        places = weight.permute(2, 3, 1, 0)
        planes = places.flatten(0, 2) @ slope.permute(0, 2, 3, 1).flatten(0, 2).t()
        planes = planes.view(*places.shape[:3], batch, rows, columns)
        made = torch.zeros(channels, batch, height + 2 * above, width + 2 * beside, device=slope.device)
        for i, j in product(*map(range, places.shape[:2])):
            made[:, :, i : i + down * rows : down, j : j + across * columns : across] += planes[i, j]
        return made[:, :, above : above + height, beside : beside + width].transpose(0, 1), *[None] * 5


def _halves(images: Tensor) -> Tensor:
    high = images.bfloat16()
    return torch.cat([high, (images - high).bfloat16()], 1).contiguous(memory_format=torch.channels_last)


def opens(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether it is a convolution over few channels, on the CPU, of the kind that `Opening` is."""
    if type(layer) is not nn.Conv2d or layer.in_channels > FEW or layer.weight.device.type != "cpu":
        return False
    plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return plain and layer.groups == 1 and layer.dilation == (1, 1)
