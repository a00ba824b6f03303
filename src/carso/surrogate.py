"""The surrogate: what of a defence can be differentiated, as a module; and a vote that says so where it is tried.

    s(x) = 1/K sum_k log softmax N(D(z_k, c))     z_k ~ N(0, I) fresh in every call, c the code of x

The vote is a count, constant almost everywhere: an attack that followed its gradient would stand still, and that would
pass for robustness. So no gradient of zeros is handed out.

Source: A. Athalye, L. Engstrom, A. Ilyas and K. Kwok, "Synthesizing robust adversarial examples", ICML 2018.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from carso.errors import NoGradientError
from carso.types import Images, Logits, at_least_one

if TYPE_CHECKING:
    from carso.defence import CARSO

SAMPLES = 4
"""K behind each gradient, where nobody says: what an audit takes for attacks that trust a single one."""


class Surrogate(nn.Module):
    """A defence as attack libraries take it: a classifier in eval mode, its logits differentiable in the images.

    Args:
        defence: what is attacked.
        samples: K, the candidates behind each answer.
    """

    input_dtype = torch.float32
    """What it takes, in whatever dtype the defence computes."""

    def __init__(self, defence: CARSO, samples: int = SAMPLES) -> None:
        super().__init__()
        at_least_one(samples=samples)
        self.training = False
        self.defence, self.samples = defence, samples

    def forward(self, images: Images) -> Logits:
        """Log-probabilities (B, classes), averaged over K candidates, of images (B, C, H, W) in [0, 1]."""
        return self.defence.surrogate(images, self.samples)

    def extra_repr(self) -> str:
        """K."""
        return f"samples={self.samples}"


class _Undifferentiable(torch.autograd.Function):
    """Scores as they are; who asks for their gradient is told what has one."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, scores: Tensor) -> Tensor:
        return scores.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        raise NoGradientError("attack `defence.differentiable()` instead of the defence")


def undifferentiable(scores: Logits, images: Images) -> Logits:
    """Scores (B, classes) of images (B, C, H, W) whose gradient is refused by a `NoGradientError` when it is taken."""
    if not (torch.is_grad_enabled() and images.requires_grad) or torch.compiler.is_compiling():
        return scores
    refused: Tensor = _Undifferentiable.apply(images, scores)  # type: ignore[no-untyped-call]
    return refused
