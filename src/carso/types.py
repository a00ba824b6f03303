"""The vocabulary of the library: images, logits, and the budget of an attack.

Images x are float tensors in [0, 1]; a classifier is any callable from images to logits; a budget is the ball
B_p(x, eps) = {x' : ||x' - x||_p <= eps} intersected with the unit box.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from jaxtyping import Float, Int
from torch import Tensor

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

Norm: TypeAlias = Literal["Linf", "L2"]


@dataclass(frozen=True)
class Budget:
    """How far an attack may move an image: ||x' - x|| <= eps in `norm`, on images in [0, 1].

    Raises:
        ValueError: if `norm` is neither "Linf" nor "L2", or `eps` is not a positive finite number.
    """

    norm: Norm
    eps: float

    def __post_init__(self) -> None:
        if self.norm not in get_args(Norm):
            raise ValueError(f"norm must be 'Linf' or 'L2', not {self.norm!r}")
        if not (math.isfinite(self.eps) and self.eps > 0):
            raise ValueError(f"eps must be a positive finite number, not {self.eps!r}")

    def __str__(self) -> str:
        return f"{self.norm} {self.eps:g}"
