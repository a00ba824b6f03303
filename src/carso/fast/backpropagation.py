"""The gradient of a folded chain with respect to its input, by hand.

    h_1 = (W_1 x_0 + b_1) + W_1 delta,    h_{i+1} = W_{i+1} phi_i(h_i) + b_{i+1},    z = tail(h_n)
    d_n = dL/dh_n,    d_i = (W_{i+1}' d_{i+1}) * phi_i'(h_i),    dL/ddelta = W_1' d_1

    x_0, delta    image and perturbation, flattened
    h_i, z        pre-activations, logits
    phi_i         element-wise non-linearity
    d_i           dL/dh_i

Of a chain behind contrast x_0 is y(x_0), delta is y(x_0 + delta) - y(x_0), and the gradient is times the slope of y.

An attack asks for many gradients around the same images, so W_1 x_0 + b_1 is computed once, in float32. Products in
bfloat16 then round the perturbation to 8 bits, not the image: a small budget is not lost in the rounding.

dL/dz of an image of which the chain is sure is minute, and what is made of it would fall below the least normal float,
where processors are many times slower. So each image's is pulled back at a size of about 1, and resized at the end.

Whether all is finite is asked of z and dL/dz, few numbers per image: the weights are constants, and phi' is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carso.fast.folding import Folded, Stage
from carso.fast.mish import mish_and_slope
from carso.fast.products import SMALL, product
from carso.nn.monitor import cleaned, note

EXPONENTS = -126, 127
"""Of the powers of two that are normal floats."""

Activate: TypeAlias = Callable[[Tensor, Tensor, Tensor, Tensor], None]
"""(h, slope, two buffers): overwrite h with phi(h), slope with phi'(h), and the buffers with anything."""


class Backpropagation:
    """Logits at x_0 + delta, then the gradient of any loss of theirs, for a fixed batch x_0, in buffers allocated once.

    Args:
        folded: the chain.
        images: x_0, (B, C, H, W) in [0, 1].
        dtype: of the large matrix products, float32 or bfloat16; everything else is float32.
    """

    def __init__(self, folded: Folded, images: Tensor, dtype: torch.dtype = torch.float32) -> None:
        *hidden, last = folded.stages
        self.tail, self.shape = folded.tail, images.shape
        self.contrast, self.images = folded.contrast, images
        self.seen = images if self.contrast is None else self.contrast(images)
        pixels = self.seen.flatten(1)
        clean = F.linear(pixels, folded.stages[0].weight, folded.stages[0].bias)
        *offsets, self.offset = clean, *(stage.bias for stage in folded.stages[1:])
        self.weight = last.weight
        self.hidden: list[_Hidden] = []
        entry = torch.empty_like(pixels)
        for stage, offset in zip(hidden, offsets, strict=True):
            self.hidden.append(_Hidden(stage, offset, entry, dtype))
            entry = self.hidden[-1].product

    def logits(self, delta: Tensor) -> Tensor:
        """Logits (B, classes) at x_0 + delta (B, C, H, W), column by column in memory."""
        a = self._moved(delta).flatten(1)
        for stage in self.hidden:
            a = stage.forward(a)
        last = torch.mm(self.weight, a.T).T + self.offset
        z = self._after(last) if len(self.tail) else last
        note(z)
        return z

    def gradient(self, slope: Tensor) -> Tensor:
        """dL/ddelta (B, C, H, W) from dL/dz (B, classes), at the delta of the last `logits`.

        It is in the dtype of the products, and the next call overwrites it.
        """
        slope, power = _sized(cleaned(slope))
        if len(self.tail):
            (slope,) = torch.autograd.grad(self.z, self.last, slope, retain_graph=True)
        d = torch.mm(slope, self.weight)
        for stage in reversed(self.hidden):
            d = stage.backward(d)
        d = d.mul_(power.to(d.dtype)).view(self.shape)
        return d if self.contrast is None else d * self.contrast.slope

    def _moved(self, delta: Tensor) -> Tensor:
        """By how much what the chain sees is moved."""
        return delta if self.contrast is None else self.contrast(self.images + delta) - self.seen

    @torch.enable_grad()
    def _after(self, last: Tensor) -> Tensor:
        """What the model makes of its last affine map."""
        self.last = last.detach().requires_grad_()
        z: Tensor = self.tail(self.last.clone())
        self.z = z
        return z.detach()


class _Hidden:
    """An affine map and its non-linearity, forwards and backwards in its own buffers.

    `entry` holds what comes in, and then the gradient with respect to it; it may be the `product` of the stage below.
    """

    def __init__(self, stage: Stage, offset: Tensor, entry: Tensor, dtype: torch.dtype) -> None:
        self.weight = stage.weight if stage.weight.numel() < SMALL else stage.weight.to(dtype)
        self.offset, self.activate = offset, _activate(stage.activation)
        self.entry = entry.to(self.weight.dtype)
        self.product = self.entry.new_empty(len(entry), len(self.weight))
        self.h, self.slope, *self.work = (torch.empty_like(self.product, dtype=offset.dtype) for _ in range(4))

    @cached_property
    def transposed(self) -> Tensor:
        """W', which only gradients need."""
        return self.weight.T.contiguous()

    def forward(self, a: Tensor) -> Tensor:
        """phi(W a + b)."""
        rows = a if a.dtype is self.weight.dtype else self.entry.copy_(a)
        reached = product(rows, self.weight, self.product)
        self.activate(torch.add(reached, self.offset, out=self.h), self.slope, *self.work)
        return self.h

    def backward(self, d: Tensor) -> Tensor:
        """dL/da from dL/dphi(h)."""
        return product(torch.mul(d, self.slope, out=self.product), self.transposed, self.entry)


def _sized(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows over the next powers of two (B, 1) above their largest entries, and those powers."""
    power = rows.abs().amax(1, keepdim=True).frexp().exponent.clamp_(*EXPONENTS).to(rows.dtype).exp2_()
    return rows / power, power


def _activate(activation: nn.Module | None) -> Activate:
    if activation is None:
        return _identity
    return mish_and_slope if isinstance(activation, nn.Mish) else partial(_by_autograd, activation)


def _identity(h: Tensor, slope: Tensor, _: Tensor, __: Tensor) -> None:
    slope.fill_(1)


def _by_autograd(activation: nn.Module, h: Tensor, slope: Tensor, leaf: Tensor, _: Tensor) -> None:
    leaf = leaf.copy_(h).detach().requires_grad_()
    with torch.enable_grad():
        value = activation(leaf.clone() if getattr(activation, "inplace", False) else leaf)
    slope.copy_(torch.autograd.grad(value, leaf, torch.ones_like(value))[0])
    h.copy_(value.detach())
