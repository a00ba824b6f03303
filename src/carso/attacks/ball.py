"""The ball of an attack: its unit steps, its projection, a point drawn from it.

s(g)    the step of unit length that follows a gradient g furthest: sign(g) in Linf, g / ||g||_2 in L2
g_q     the largest components of g, a share q of them; the others are 0
e(t/T)  pace: how the step's length changes over a run of T steps
P(x)    projection into B_p(x_0, eps) and into [0, 1], to rounding (`carso.attacks.budget.confine` is exact)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from carso.attacks.budget import reach
from carso.types import Budget, Images, Norm

Pace: TypeAlias = Callable[[float], float]
"""Share of the run, in [0, 1) -> the step's length, in units of the attack's own."""

LONGEST, SHORTEST = 2.0, 0.02
"""First and last step of an annealed run, in units of eps."""


def steady(_: float) -> float:
    """Every step as long as the first."""
    return 1.0


def annealing(share: float) -> float:
    """From a leap across the ball to almost nothing along half a cosine; in units of eps."""
    return SHORTEST + (LONGEST - SHORTEST) * (1 + math.cos(math.pi * share)) / 2


def unit(gradient: Images, norm: Norm) -> Images:
    """The step of length one that follows the gradient furthest; zero where the gradient is."""
    if norm == "Linf":
        return gradient.sign()
    largest = gradient.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny).view(-1, 1, 1, 1)
    scaled = gradient / largest
    return scaled / length(scaled).clamp_min(1)


def foremost(gradient: Images, share: float) -> Images:
    """The largest components of each image's gradient, this share of them and at least one; the others are zero."""
    rows = gradient.flatten(1)
    largest = rows.abs().topk(max(1, round(share * rows.shape[1])), dim=1).indices
    return torch.zeros_like(rows).scatter(1, largest, rows.gather(1, largest)).view_as(gradient)


def project(x: Images, images: Images, eps: float | Tensor, norm: Norm) -> Images:
    """Project into the box and the ball, to rounding."""
    if norm == "Linf":
        return torch.clamp(x, (images - eps).clamp_min(0), (images + eps).clamp_max(1))
    delta = x.clamp(0, 1) - images
    return images + delta * (eps / length(delta).clamp_min(torch.finfo(delta.dtype).tiny)).clamp_max(1)


def length(delta: Images) -> Tensor:
    """L2 norm per image, (B, 1, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return norms.view(-1, 1, 1, 1)


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
        delta.addcmul_(self.direction.sign_() if self.norm == "Linf" else unit(self.direction, "L2"), alpha)
        torch.clamp(delta, self.low, self.high, out=delta)
        if self.norm == "L2":
            delta.mul_((self.eps / length(delta).clamp_min_(torch.finfo(delta.dtype).tiny)).clamp_max_(1))


def uniform(images: Images, budget: Budget, generator: Generator | None = None) -> Images:
    """A point drawn uniformly from the ball around each image, then clamped to [0, 1]."""
    source = images.device if generator is None else generator.device
    offset = torch.empty(images.shape, device=source, dtype=images.dtype)
    if budget.norm == "Linf":
        offset.uniform_(-1, 1, generator=generator)
    else:
        offset = unit(offset.normal_(generator=generator), "L2")
        radius = torch.rand(len(images), 1, 1, 1, generator=generator, device=source, dtype=images.dtype)
        offset.mul_(radius ** (1 / images[0].numel()))
    return offset.to(images.device).mul_(reach(images, budget)).add_(images).clamp_(0, 1)
