"""The budget of an attack, held to the last float32 around every attack.

    confine(x', x) in B_p(x, eps) and in [0, 1]^d

    x    clean images, float32 in [0, 1]
    x'   what an attack proposes
    eps  radius of the ball, in units of the [0, 1] pixel

Linf: x' is clamped between x - eps and x + eps; where rounding put such a bound outside of the ball, the next float32
towards x takes its place. So |x' - x| <= eps holds in exact arithmetic and, since rounding is monotone, in float32 and
float64 too.

L2 and L1: x' is clamped to the box, then drawn towards x to a norm of eps less a margin for the rounding of whoever
evaluates the norm in float32; each pixel is rounded towards x.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Protocol, TypeVar, cast

import torch
from torch import Generator, Tensor

from carso.attacks.contract import checked
from carso.errors import NonFiniteError
from carso.types import Budget, Classifier, Images, Labels, Norm


class Attack(Protocol):
    """`attack(model, images, labels, budget, generator=...) -> images`, within the budget and [0, 1]."""

    def __call__(
        self, model: Classifier, images: Images, labels: Labels, budget: Budget, *, generator: Generator | None = None
    ) -> Images:
        """Adversarial images of the same shape."""
        ...


A = TypeVar("A", bound=Callable[..., Tensor])


def bounded(attack: A) -> A:
    """Wrap an attack: check what it is given, run the model in eval mode, confine what it returns to the budget.

    See `checked` for the errors; what is no `Budget` is a ValueError, too.
    """
    proposal = checked(attack)

    @functools.wraps(attack)
    def confined(model: Classifier, images: Tensor, labels: Any, budget: Budget, **options: Any) -> Tensor:
        if not isinstance(budget, Budget):
            raise ValueError(f"budget must be a carso.Budget(norm, eps), not {budget!r}")
        try:
            return confine(proposal(model, images, labels, budget, **options), images, budget)
        except NonFiniteError as error:
            error.found = confine(error.found, images, budget)
            raise

    return cast(A, confined)


@torch.no_grad()
def confine(adversarial: Images, images: Images, budget: Budget) -> Images:
    """Bring `adversarial` into the ball around `images` and into [0, 1], exactly; a NaN becomes the clean pixel.

    Args:
        adversarial: proposed images, any values.
        images: clean images in [0, 1], float32.
        budget: norm and radius of the ball.

    Returns:
        float32 images without gradient; those that were already inside (in L2 and L1, by the margin) are unchanged.
    """
    given = adversarial.to(images.dtype)
    proposed = torch.where(given.isnan(), images, given)
    if budget.norm != "Linf":
        return _shrink(proposed.clamp(0, 1), images, budget)
    eps = _largest_float32(min(budget.eps, 1.0))
    nearest = torch.clamp(proposed, images - eps, images + eps).clamp_(0, 1)
    outside = (nearest.double() - images).abs_() > eps
    return torch.where(outside, torch.nextafter(nearest, images), nearest)


def reach(images: Images, budget: Budget) -> float:
    """The radius of the ball, or of the whole unit box where that is smaller."""
    return min(budget.eps, across(images[0].numel(), budget.norm))


def across(pixels: int, norm: Norm) -> float:
    """The length of the unit box's diagonal in so many dimensions."""
    return {"Linf": 1.0, "L2": math.sqrt(pixels), "L1": float(pixels)}[norm]


def length(delta: Tensor, norm: Norm = "L2") -> Tensor:
    """L2 or L1 norm per image (B, C, H, W), (B, 1, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(1), ord=1 if norm == "L1" else 2, dim=1)
    return norms.view(-1, 1, 1, 1)


def margin(pixels: int) -> float:
    """Relative rounding error allowed to a float32 evaluation of the L2 or L1 norm of that many pixels."""
    return max(1e-6, math.sqrt(pixels) * 2**-22)


def _largest_float32(value: float) -> float:
    """The largest float32 not above `value`."""
    nearest, lowest = torch.tensor([value, -math.inf], dtype=torch.float32, device="cpu")
    below = torch.nextafter(nearest, lowest)
    return below.item() if nearest.item() > value else nearest.item()


def _towards(images: Images, exact: Tensor) -> Images:
    """Round float64 `exact` to the float32 beside it on the side of `images`."""
    nearest = exact.float()
    beyond = (nearest - exact) * (exact - images) > 0
    return torch.where(beyond, torch.nextafter(nearest, images), nearest)


def _shrink(proposed: Images, images: Images, budget: Budget) -> Images:
    """Move `proposed` towards `images` until the L2 or L1 distance is eps, less the margin."""
    radius = budget.eps * (1 - margin(images[0].numel()))
    delta = proposed.double() - images
    distance = length(delta, budget.norm).clamp_(min=torch.finfo(torch.float64).tiny)
    return torch.where(distance > radius, _towards(images, images + radius / distance * delta), proposed)
