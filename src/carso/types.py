"""The vocabulary of the library: images, logits, and the budget of an attack.

Images x are float tensors in [0, 1]; a classifier is any callable from images to logits; a budget is the ball
B_p(x, eps) = {x' : ||x' - x||_p <= eps} intersected with the unit box.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Protocol, TypeAlias, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

from carso.errors import DataError, ModelError

Images: TypeAlias = Float[Tensor, "batch channels height width"]
Labels: TypeAlias = Int[Tensor, " batch"]
Logits: TypeAlias = Float[Tensor, "batch classes"]
Representations: TypeAlias = Float[Tensor, "batch neurons"]
Codes: TypeAlias = Float[Tensor, "batch code"]
Latents: TypeAlias = Float[Tensor, "samples latent"]
Candidates: TypeAlias = Float[Tensor, "batch samples channels height width"]
CandidateLogits: TypeAlias = Float[Tensor, "batch samples classes"]
Counts: TypeAlias = Int[Tensor, "batch classes"]

Classifier: TypeAlias = Callable[[Tensor], Tensor]
"""Anything from images (B, C, H, W) in [0, 1] to logits (B, classes)."""

INPUT, OUTPUT = "input", "output"
"""The two ends of a classifier, named among its layers: the image itself, and what the classifier returns."""

Norm: TypeAlias = Literal["Linf", "L2", "L1"]
Scale: TypeAlias = Literal["Linf", "L2", "L1", "severity"]
"""What says how far an image was moved: a norm, or the severity of a corruption."""


class ByAttributes(type(Protocol)):  # type: ignore[misc]
    """Of protocols that modules are to honour, too: `isinstance` asks an object for every attribute.

    Since Python 3.12 it looks for them in the object's own dictionary instead, where a module's submodules are not.
    """

    def __instancecheck__(cls, instance: Any) -> bool:
        since_3_12: set[str] | None = getattr(cls, "__protocol_attrs__", None)
        if since_3_12 is None:
            return bool(super().__instancecheck__(instance))
        return all(hasattr(instance, name) for name in since_3_12)


@dataclass(frozen=True)
class Budget:
    """How far an attack may move an image: ||x' - x|| <= eps in `norm`, on images in [0, 1].

    `eps` may be any real number, or a tensor of no dimensions; it is kept as a float.

    Raises:
        ValueError: if `norm` is not "Linf", "L2" or "L1", or `eps` is not a positive finite number.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise ValueError(f"norm must be 'Linf', 'L2' or 'L1', not {self.norm!r}")
        eps = _real(self.eps)
        if not (math.isfinite(eps) and eps > 0):
            raise ValueError(f"eps must be a positive finite number, not {self.eps!r}")
        object.__setattr__(self, "eps", eps)

    def __str__(self) -> str:
        return f"{self.norm} {spelled(self.eps)}"


def _real(value: Any) -> float:
    """A number, or a tensor or array that is one, as a float; NaN for anything else."""
    try:
        return float(value) if isinstance(value, Real) or getattr(value, "ndim", None) == 0 else math.nan
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        return math.nan


@dataclass(frozen=True)
class Severity:
    """How strong a corruption is, which no norm measures: 1 (mild) to 5.

    Raises:
        ValueError: if it is no whole number of these.
    """

    level: int

    def __post_init__(self) -> None:
        if self.level not in range(1, 6):
            raise ValueError(f"a severity is a whole number from 1 to 5, not {self.level!r}")

    @property
    def norm(self) -> Literal["severity"]:
        """What stands for the norm of a budget."""
        return "severity"

    @property
    def eps(self) -> int:
        """What stands for the radius of a budget: the level."""
        return self.level

    def __str__(self) -> str:
        return f"severity {self.level}"


def radius(written: str) -> float:
    """A radius as people write it: "0.03", "3e-2", "8/255".

    Raises:
        ValueError: if it is neither a number nor one number over another.
    """
    above, over, below = written.partition("/")
    try:
        return float(above) / float(below if over else 1)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"a radius is a number or a fraction, such as 0.03 or 8/255, not {written!r}") from None


def spelled(eps: float) -> str:
    """A radius as people write it, and as `radius` reads it: "0.3", "8/255"."""
    plain, levels = f"{eps:g}", round(255 * eps)
    return f"{levels}/255" if len(plain) > len("0.075") and math.isclose(255 * eps, levels, rel_tol=1e-5) else plain


def sides(written: str) -> tuple[int, int]:
    """Height and width in pixels as people write them: "224x224", "48 x 64".

    Raises:
        ValueError: if they are not two whole numbers from 1.
    """
    height, _, width = written.lower().partition("x")
    try:
        found = int(height), int(width)
    except ValueError:
        found = 0, 0
    if min(found) < 1:
        raise ValueError(f"a size is height x width in pixels, such as 224x224, not {written!r}")
    return found


def at_least_one(**numbers: int) -> None:
    """Raise a ValueError that names the first of these numbers that is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, not {number}")


def check_images(images: Tensor, shape: Sequence[int] | None = None) -> None:
    """Hold images to the contract; their range is not looked at under `torch.compile` and `torch.export`.

    Raises:
        DataError: unless they are floats (B, C, H, W) in [0, 1], of the given (C, H, W) if any, without NaN.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"images must be a float tensor in [0, 1], not {kind}; divide bytes by 255")
    if images.ndim != 4 or (shape is not None and tuple(images.shape[1:]) != tuple(shape)):
        wanted = "(batch, channels, height, width)" if shape is None else f"(batch, {', '.join(map(str, shape))})"
        raise DataError(f"images must have shape {wanted}, not {tuple(images.shape)}")
    if images.numel() == 0 or torch.compiler.is_compiling():
        return
    low, high = (bound.item() for bound in torch.aminmax(images.detach()))
    if not (low >= 0 and high <= 1):
        raise DataError(f"images must lie in [0, 1] without NaN; these span {low} to {high}")


def check_logits(logits: Tensor) -> None:
    """Hold the logits of candidates to what a vote can be taken on.

    Raises:
        ModelError: if any is NaN: every comparison with it is false, so that the first class would win.
    """
    if not torch.compiler.is_compiling() and logits.isnan().any():
        raise ModelError("no vote can be taken: candidates have NaN for logits; the weights of the defence are damaged")
