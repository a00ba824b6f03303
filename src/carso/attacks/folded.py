"""The gradient attacks' inner loop on a folded chain: the same steps as `carso.attacks.gradient`, several times faster.

The state is the perturbation delta, updated in place, on chunks of images:

    delta <- P(delta + alpha s(g)),    g = dL/ddelta at x_0 + delta

with the gradient by hand (see `carso.nn.backpropagation`) and matrix products in bfloat16 where the processor has units
for them. In float32 it equals the plain loop to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from carso.attacks.ball import Pace, length, steady, unit
from carso.attacks.losses import Loss, cross_entropy
from carso.errors import ModelError
from carso.nn.backpropagation import Backpropagation
from carso.nn.folded import Folded, fold
from carso.nn.products import product_dtype
from carso.types import Classifier, Images, Labels, Norm

PIXELS_PER_CORE = 400_000
"""Size of a chunk: large enough to repay the fixed cost of its matrix products, small enough to bound the memory."""


def folded_if(model: Classifier, images: Images, fast: bool | None) -> Folded | None:
    """The folded model: where it applies and images are on the CPU if `fast` is None, always if True, never if False.

    Raises:
        ModelError: if `fast` is True and the model does not fold.
    """
    if fast is False or (fast is None and images.device.type != "cpu"):
        return None
    folded = fold(model)
    if fast and folded is None:
        raise ModelError(
            "fast=True needs a chain of Standardise, Flatten, Linear, BatchNorm1d, Dropout and element-wise layers "
            "in eval mode and without hooks; leave fast=None for any other model"
        )
    return folded


@torch.no_grad()
def ascend(
    folded: Folded,
    images: Images,
    labels: Labels,
    start: Images,
    eps: float | Tensor,
    alpha: float | Tensor,
    *,
    steps: int,
    norm: Norm,
    loss: Loss,
    targeted: bool,
    pace: Pace = steady,
    dtype: torch.dtype | None = None,
) -> Images:
    """As `carso.attacks.gradient.ascend`, for a folded model; `dtype` is that of the matrix products."""
    dtype = product_dtype(images.device) if dtype is None else dtype
    whole = (images, labels, start, _per_image(eps, images), _per_image(alpha, images))
    reached = []
    for x, y, x_0, radius, step in zip(*(value.tensor_split(_chunks(images)) for value in whole), strict=True):
        backpropagation, slope = Backpropagation(folded, x, dtype), logit_slope(folded, y, loss, targeted)
        delta, ball = x_0 - x, _Ball(x, radius, norm)
        for t in range(steps):
            gradient = backpropagation.gradient(slope(backpropagation.logits(delta.flatten(1))))
            ball.step_(delta, gradient.view_as(delta), step * pace(t / steps))
        reached.append((x + delta).clamp_(0, 1))
    return torch.cat(reached)


class _Ball:
    """The ball around `images`, within the box, in terms of delta."""

    def __init__(self, images: Images, eps: Tensor, norm: Norm) -> None:
        self.eps, self.norm = eps, norm
        self.low, self.high, self.direction = -images, 1 - images, torch.empty_like(images)
        if norm == "Linf":
            self.low, self.high = torch.maximum(self.low, -eps), torch.minimum(self.high, eps)

    def step_(self, delta: Tensor, gradient: Tensor, alpha: Tensor) -> None:
        """A step of length alpha along the gradient, and the projection; both in place."""
        self.direction.copy_(gradient)
        delta.addcmul_(self.direction.sign_() if self.norm == "Linf" else unit(self.direction, "L2"), alpha)
        torch.clamp(delta, self.low, self.high, out=delta)
        if self.norm == "L2":
            delta.mul_((self.eps / length(delta).clamp_min_(torch.finfo(delta.dtype).tiny)).clamp_max_(1))


def logit_slope(folded: Folded, labels: Labels, loss: Loss, targeted: bool) -> Callable[[Tensor], Tensor]:
    """The gradient (B, classes) of the summed loss with respect to the last affine map, as a function of it."""
    sign = -1 if targeted else 1
    if loss is cross_entropy and not len(folded.tail):
        hot = F.one_hot(labels, len(folded.stages[-1].weight)).T
        return lambda z: (torch.softmax(z.T, dim=0) - hot).mul_(sign).T

    @torch.enable_grad()
    def by_autograd(z: Tensor) -> Tensor:
        leaf = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(sign * loss(folded.tail(leaf.clone()), labels).sum(), leaf)
        return slope

    return by_autograd


def _per_image(value: float | Tensor, images: Images) -> Tensor:
    return torch.as_tensor(value, dtype=images.dtype, device=images.device).expand(len(images), 1, 1, 1)


def _chunks(images: Images) -> int:
    """How many chunks of equal size; one on a GPU."""
    return 1 if images.is_cuda else math.ceil(images.numel() / (PIXELS_PER_CORE * torch.get_num_threads()))
