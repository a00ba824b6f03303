"""FiWAGR: filtering via weight-agnostic gradient randomisation.

    forward     b = a
    backward    dL/da := sigma n,  n ~ N(0, I), drawn anew for every image in every backward pass

Whatever the gradient dL/db is, it stops here, and with it every weight behind the layer. What is handed back is zero in
expectation, almost surely nowhere zero for a single image, and of the same size everywhere, so that neither a vanishing
gradient nor its length tells the layer apart. What lies before the layer is differentiated as ever. In train mode the
layer passes gradients on, or nothing before it could learn: a purifier whose training attacks N alone comes to the same
weights with it as without. Attacks on the whole defence are crafted in eval mode, in training too, and follow noise.

It puts chance where a gradient was, which is not to take the gradient away: an attacker who takes the layer for the
identity in his backward pass (BPDA) or who differentiates nothing at all is not hindered by it.

Put into the paths of a CARSO, before or after its purifier is trained:

    randomised(defence.purifier.maps)            the representation's: no gradient passes from c to r(x)
    randomised(defence.purifier.decoder[-1])     the decoder's: none passes from the candidates to D

Both are undone by the `remove` of what is returned. Files of weights do not keep them. A recall calls the decoder's
layers one by one: before the decoder as a whole or the purifier the layer would change nothing, and is refused.

Source: E. Ballarin, MSc thesis, University of Trieste, 2022, section 4.1.2, which proposes it and leaves open how the
gradient is drawn; the name "weight-agnostic" after A. Gaier and D. Ha, Weight agnostic neural networks, NeurIPS 2019.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map
from torch.utils.hooks import RemovableHandle


class Randomisation(torch.autograd.Function):
    """The identity, whose gradient is noise; `Randomisation.apply(a, sigma)`."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, sigma: float) -> Tensor:
        """The activations, as they are."""
        ctx.sigma = sigma
        return a.view_as(a)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """N(0, sigma^2) in the shape of the gradient, by torch's generator, and nothing of the gradient itself."""
        return ctx.sigma * torch.randn_like(gradients[0]), None


class FiWAGR(nn.Module):
    """The layer: in eval mode the gradient that passes it is randomised, in train mode it is not.

    Args:
        sigma: standard deviation of every component of the gradient that is handed back, positive.

    Raises:
        ValueError: if sigma is not positive.
    """

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, not {sigma}")
        self.sigma = sigma

    def forward(self, a: Tensor) -> Tensor:
        """Activations (B, ...), unchanged."""
        if self.training:
            return a
        passed: Tensor = Randomisation.apply(a, self.sigma)  # type: ignore[no-untyped-call]
        return passed


def randomised(module: nn.Module, sigma: float = 1.0) -> RemovableHandle:
    """Put the layer before a module: no gradient passes its input while the module is in eval mode.

    Args:
        module: any that is called with tensors, by position or by name, in tuples, lists or dicts too.
        sigma: as for `FiWAGR`.
    """
    return module.register_forward_pre_hook(_Before(FiWAGR(sigma)), with_kwargs=True)


def is_randomised(module: nn.Module) -> bool:
    """Whether the layer stands before this very module."""
    return any(isinstance(hook, _Before) for hook in module._forward_pre_hooks.values())


def paths(module: nn.Module) -> list[tuple[str, float]]:
    """Before which of its modules the layer stands, by their names, and its sigma."""
    hooks = ((name, hook) for name, part in module.named_modules() for hook in part._forward_pre_hooks.values())
    return [(name, hook.layer.sigma) for name, hook in hooks if isinstance(hook, _Before)]


@dataclass(frozen=True)
class _Before:
    """The layer on whatever a module takes, however it is handed over."""

    layer: FiWAGR

    def __call__(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self.layer.train(module.training)
        return tree_map(lambda a: self.layer(a) if isinstance(a, Tensor) else a, (given, named))
