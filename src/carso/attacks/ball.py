"""The ball of an attack: its unit steps, its projection, a point drawn from it.

s(g)    the step of unit length that follows a gradient g furthest: sign(g) in Linf, g / ||g||_2 in L2; in L1 that would
        be one component, and is sign(g_q) / ||sign(g_q)||_1 of a fiftieth of them, or another share, for which all
        fewer steps do
g_q     the largest components of g, a share q of them; the others are 0
d(g)    the step in L1 that a run takes, of length a: the largest components of g first, each by a / (q n) of n
        components or to its wall, until a is spent
e(t/T)  pace: how the step's length changes over a run of T steps
P(x)    projection into B_p(x_0, eps) and into [0, 1], to rounding (`carso.attacks.budget.confine` is exact); the
        nearest point of both in Linf and L1: there, every |x - x_0| less the same lambda, within the box

Sources of L1: F. Tramèr and D. Boneh, Adversarial training and robustness for multiple perturbations, NeurIPS 2019
(sparse steps); F. Croce and M. Hein, Mind the box: l1-APGD for sparse adversarial attacks, ICML 2021 (the projection).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from carso.attacks.budget import length, reach
from carso.nn.chance import home
from carso.types import Budget, Images, Norm

Pace: TypeAlias = Callable[[float], float]
"""Share of the run, in [0, 1) -> the step's length, in units of the attack's own."""

SPARSE = 0.02
"""Share of the components that a step in L1 moves."""

HALVINGS = 40
"""Of the interval in which lambda is looked for."""

LONGEST, SHORTEST = 2.0, 0.02
"""First and last step of an annealed run, in units of eps."""


def steady(_: float) -> float:
    """Every step as long as the first."""
    return 1.0


def annealing(share: float) -> float:
    """From a leap across the ball to almost nothing along half a cosine; in units of eps."""
    return SHORTEST + (LONGEST - SHORTEST) * (1 + math.cos(math.pi * share)) / 2


def unit(gradient: Images, norm: Norm, at: Images | None = None, share: float | Tensor | None = None) -> Images:
    """The step of length one that follows the gradient furthest; zero where the gradient is.

    Where it moves a share of the components alone, by default all but in L1, it passes over those of images `at` hand
    that are at a wall of the box.
    """
    if share is None:
        share = SPARSE if norm == "L1" else 1.0
    if norm == "L1" or share < 1:
        gradient = foremost(gradient if at is None else free(gradient, at), share)
    if norm == "Linf":
        return gradient.sign()
    if norm == "L1":
        moved = gradient.sign()
        return moved / length(moved, norm).clamp_min(1)
    largest = gradient.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny).view(-1, 1, 1, 1)
    scaled = gradient / largest
    return scaled / length(scaled).clamp_min(1)


def spent(gradient: Images, low: Images, high: Images, amount: float | Tensor, share: float | None = None) -> Images:
    """A step in L1 that spends an amount on the largest components first, on none more than leads to its wall.

    Without walls it is `amount` times `unit`'s. Whoever steps along the same few components, walls or not, is thrown
    back by the projection as often as he steps.

    Args:
        gradient: (B, C, H, W).
        low: how far each component may go down, at most 0.
        high: how far up, at least 0.
        amount: the length of the step, or each image's, (B, 1, 1, 1).
        share: of the components, on which an amount without walls is spent evenly; by default a fiftieth.
    """
    rows = gradient.flatten(1)
    count = max(1, round((SPARSE if share is None else share) * rows.shape[1]))
    room = torch.where(gradient > 0, high, -low).flatten(1).masked_fill(rows == 0, 0)
    order = rows.abs().argsort(dim=1, descending=True, stable=True)
    whole = torch.as_tensor(amount, dtype=rows.dtype, device=rows.device).view(-1, 1)
    each = torch.minimum(room, whole / count).gather(1, order)
    each = torch.minimum(each, (whole - (each.cumsum(1) - each)).clamp_min(0))
    return gradient.sign() * torch.zeros_like(rows).scatter(1, order, each).view_as(gradient)


def free(gradient: Images, at: Images) -> Images:
    """The gradient without the components along which images `at` hand are at a wall of the box."""
    return gradient.masked_fill(torch.where(gradient > 0, at >= 1, at <= 0), 0)


def foremost(gradient: Images, share: float | Tensor) -> Images:
    """The largest components of each image's gradient, a share of them and at least one; the others are zero.

    Args:
        gradient: (B, C, H, W).
        share: in [0, 1]; of all images, or each image's own (B,).
    """
    rows = gradient.flatten(1)
    counts = (torch.as_tensor(share, dtype=torch.float64) * rows.shape[1]).round().clamp(1, rows.shape[1])
    largest = rows.abs().topk(int(counts.max()), dim=1).indices
    kept = rows.gather(1, largest)
    if counts.ndim:
        kept = kept.masked_fill(torch.arange(kept.shape[1], device=kept.device) >= counts.unsqueeze(1), 0)
    return torch.zeros_like(rows).scatter(1, largest, kept).view_as(gradient)


def project(x: Images, images: Images, eps: float | Tensor, norm: Norm) -> Images:
    """Project into the box and the ball, to rounding."""
    if norm == "Linf":
        return torch.clamp(x, (images - eps).clamp_min(0), (images + eps).clamp_max(1))
    if norm == "L1":
        return images + shrunk(x - images, -images, 1 - images, eps)
    delta = x.clamp(0, 1) - images
    return images + delta * (eps / length(delta).clamp_min(torch.finfo(delta.dtype).tiny)).clamp_max(1)


def shrunk(delta: Images, low: Images, high: Images, eps: float | Tensor) -> Images:
    """The point nearest to delta of an L1 norm of eps at most, between low <= 0 and high >= 0; no wait for a GPU."""
    amounts, signs = delta.abs(), delta.sign()
    walls = torch.where(delta > 0, high, -low)

    def less(lambdas: Tensor) -> Tensor:
        return torch.minimum((amounts - lambdas).clamp_min(0), walls)

    below = torch.zeros_like(delta[:, :1, :1, :1])
    inside = length(less(below), "L1") <= eps
    above = amounts.amax((1, 2, 3), keepdim=True).masked_fill(inside, 0)
    done = delta.device.type == "cpu" and bool(inside.all())
    for _ in range(0 if done else HALVINGS):
        middle = (below + above) / 2
        fits = length(less(middle), "L1") <= eps
        below, above = torch.where(fits, below, middle), torch.where(fits, middle, above)
    return signs * less(above)


class Ball:
    """The ball around images (B, C, H, W), within the box, in terms of delta; eps per image, (B, 1, 1, 1)."""

    def __init__(self, images: Images, eps: Tensor, norm: Norm) -> None:
        self.eps, self.norm = eps, norm
        self.low, self.high, self.direction = -images, 1 - images, torch.empty_like(images)
        if norm == "Linf":
            self.low, self.high = torch.maximum(self.low, -eps), torch.minimum(self.high, eps)

    def step_(self, delta: Tensor, gradient: Tensor, alpha: Tensor) -> None:
        """A step of length alpha along the gradient, and the projection; both in place."""
        self.direction.copy_(gradient)
        if self.norm == "L1":
            delta.add_(spent(self.direction, self.low - delta, self.high - delta, alpha))
            delta.copy_(shrunk(delta, self.low, self.high, self.eps))
            return
        delta.addcmul_(self.direction.sign_() if self.norm == "Linf" else unit(self.direction, "L2"), alpha)
        torch.clamp(delta, self.low, self.high, out=delta)
        if self.norm == "L2":
            delta.mul_((self.eps / length(delta).clamp_min_(torch.finfo(delta.dtype).tiny)).clamp_max_(1))


def uniform(images: Images, budget: Budget, generator: Generator | None = None) -> Images:
    """A point drawn uniformly from the ball around each image, then clamped to [0, 1]."""
    source = home(generator, images.device)
    offset = torch.empty(images.shape, device=source, dtype=images.dtype)
    if budget.norm == "Linf":
        offset.uniform_(-1, 1, generator=generator)
    elif budget.norm == "L1":
        signs = torch.empty_like(offset).uniform_(-1, 1, generator=generator).sign()
        beyond = torch.empty(len(images), 1, 1, 1, device=source, dtype=images.dtype).exponential_(generator=generator)
        offset.exponential_(generator=generator)
        offset.mul_(signs / (length(offset, "L1") + beyond))
    else:
        offset = unit(offset.normal_(generator=generator), "L2")
        radius = torch.rand(len(images), 1, 1, 1, generator=generator, device=source, dtype=images.dtype)
        offset.mul_(radius ** (1 / images[0].numel()))
    return offset.to(images.device).mul_(reach(images, budget)).add_(images).clamp_(0, 1)
