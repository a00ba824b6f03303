"""Mish and its derivative, from one exponential.

    phi(h) = h tanh(log(1 + e^h)) = h t,    w = e^h + e^2h / 2,    q = 1 / (1 + w),    t = w q
    phi'(h) = t + 2 h q (t - e^h q / 2)

Torch's own takes a logarithm and a hyperbolic tangent besides, in both directions.

Source: D. Misra, Mish: a self regularized non-monotonic activation function, BMVC 2020.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class Mish(nn.Module):
    """phi, differentiable once: its derivative is computed along with it."""

    def forward(self, h: Tensor) -> Tensor:
        """phi(h), of the same shape, float32."""
        value: Tensor = _Mish.apply(h)  # type: ignore[no-untyped-call]
        return value


class _Mish(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor) -> Tensor:
        value, slope = h.clone(), torch.empty_like(h)
        mish_and_slope(value, slope, torch.empty_like(h), torch.empty_like(h))
        ctx.save_for_backward(slope)
        return value

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (slope,) = ctx.saved_tensors
        return slopes[0].mul(slope)


def mish_and_slope(h: Tensor, slope: Tensor, e: Tensor, t: Tensor) -> None:
    """Overwrite h with phi(h), slope with phi'(h), and the buffers e and t with anything; all of one shape."""
    torch.clamp(h, min=-80, max=40, out=e).exp_()  # t is 0 and 1 beyond, and an exponential that underflows is slow
    torch.addcmul(e, e, e, value=0.5, out=t)
    q = torch.add(t, 1, out=slope).reciprocal_()
    t.mul_(q)
    torch.sub(t, e.mul_(q), alpha=0.5, out=e)
    torch.addcmul(t, q.mul_(h), e, value=2, out=slope)
    h.mul_(t)


def mish(h: Tensor) -> Tensor:
    """phi(h), in a new tensor, without gradient: one power of two."""
    e = h.mul(1 / math.log(2)).clamp_(min=-115, max=58).exp2_()
    w = torch.addcmul(e, e, e, value=0.5)
    return torch.div(w, w + 1, out=e).mul_(h)
