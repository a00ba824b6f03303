"""A model around fixed images: its logits at images + delta, and gradients pulled back to delta.

    z = f(x_0 + delta),    dL/ddelta = J' dL/dz,    J = dz/ddelta

A folded chain does both by hand (`carso.fast.backpropagation`), everything else by autograd.
"""

from __future__ import annotations

import math
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from carso.errors import NoGradientError
from carso.fast.backpropagation import Backpropagation
from carso.fast.folding import Folded
from carso.fast.network import Network
from carso.fast.products import Reduced, product_dtype
from carso.nn.querying import query, unqueried
from carso.types import Classifier, Images, Logits

PIXELS_PER_CORE = 400_000
"""Size of a chunk: large enough to repay the fixed cost of its matrix products, small enough to bound the memory."""


@runtime_checkable
class Pullback(Protocol):
    """A model around a fixed batch of images."""

    def logits(self, delta: Images) -> Logits:
        """z (B, classes) at images + delta."""

    def gradient(self, slope: Logits) -> Images:
        """dL/ddelta from dL/dz (B, classes), at the delta of the last `logits`; the next call may overwrite it."""


def pullback(model: Classifier, images: Images, dtype: torch.dtype | None = None, keep: bool = False) -> Pullback:
    """The model around a batch.

    Args:
        model: what `carso.fast.faster` gave.
        images: x_0, (B, C, H, W) in [0, 1].
        dtype: of a folded chain's large products; by default bfloat16 where the processor multiplies it faster.
        keep: several gradients will be asked for at one delta.
    """
    if isinstance(model, Folded):
        return Backpropagation(model, images, product_dtype(images.device) if dtype is None else dtype)
    if isinstance(model, Network | Reduced) and dtype is torch.float32:
        model = model.exact
    return ByAutograd(model, images, keep)


def portions(model: Classifier, images: Images) -> int:
    """Into how many parts of equal size a batch is best cut for many gradients: one for what is as it came.

    What says its `batch_of` is cut by it.
    """
    if images.is_cuda or not len(images):
        return 1
    if isinstance(model, Folded):
        return math.ceil(images.numel() / (PIXELS_PER_CORE * torch.get_num_threads()))
    batch = batch_of(model)
    return math.ceil(len(images) / (batch * torch.get_num_threads())) if batch else 1


def batch_of(model: object) -> int | None:
    """How many images at a time each of a CPU's threads computes fastest, if the model says so by a `batch`."""
    batch = getattr(unqueried(model), "batch", None)
    return batch if type(batch) is int and batch > 0 else None


class ByAutograd:
    """Any differentiable model around a batch.

    Raises:
        NoGradientError: on the first `gradient`, if the logits do not depend differentiably on the images.
    """

    def __init__(self, model: Classifier, images: Images, keep: bool = False) -> None:
        self.model, self.images, self.keep = model, images, keep

    def logits(self, delta: Images) -> Logits:
        """As in `Pullback`."""
        with torch.enable_grad():
            self.x = (self.images + delta).detach().requires_grad_()
            self.z = query(self.model, self.x)
        return self.z.detach()

    def gradient(self, slope: Logits) -> Images:
        """As in `Pullback`."""
        return gradient_of(self.z, self.x, slope, self.keep)


def gradient_of(values: Tensor, x: Images, slopes: Tensor | None = None, keep: bool = False) -> Images:
    """The gradient with respect to x of values, a scalar or with these slopes; `keep` the graph for another one.

    Raises:
        NoGradientError: if the values do not depend differentiably on x.
    """
    if not values.requires_grad:
        raise NoGradientError
    (gradient,) = torch.autograd.grad(values, x, slopes, retain_graph=keep, allow_unused=True)
    if gradient is None:
        raise NoGradientError
    return gradient
