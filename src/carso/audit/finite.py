"""Gradients that are NaN or infinite: which images have them, and how attacks go on nevertheless.

A NaN compares as false and its sign is 0: an attack that follows it does not move, and the model looks robust. Most of
them come from a product 0 * infinity in backpropagation, such as 0 * dz_y / dp_y of

    z_y = log(p_y / (1 - p_y)),    dz_y / dp_y = infinity where p_y is rounded to 1

The factor 0 comes from a loss that does not depend on z_y, or whose score stands for infinity (`carso.audit.surface`).
Such a product is taken as 0: a score on which the loss does not depend adds nothing to its gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import Node

from carso.attacks.eot import Candidates
from carso.errors import NonFiniteError
from carso.fast import batch_of
from carso.types import Images


def crafted(attack: Callable[[], Images]) -> tuple[Images, int]:
    """What an attack finds, and on how many images it met gradients that are not finite."""
    try:
        return attack(), 0
    except NonFiniteError as error:
        return error.found, error.images


def non_finite(gradients: Images) -> Tensor:
    """Which images' (B,) gradients hold NaN or infinity."""
    return ~gradients.flatten(1).isfinite().all(1)


def mended(candidates: Candidates) -> Candidates:
    """The same candidates, in whose backward pass whatever is not finite counts as 0."""
    return _Mended(candidates, batch_of(candidates), getattr(candidates, "varies", None))


@dataclass(frozen=True)
class _Mended:
    """See `mended`; it says of `batch` and `varies` what the candidates say."""

    candidates: Candidates
    batch: int | None
    varies: bool | None

    def __call__(self, images: Images, samples: int) -> Tensor:
        logits = self.candidates(images, samples)
        for node in _nodes(logits):
            node.register_hook(_cleaned)
        return logits


def _nodes(values: Tensor) -> Iterator[Node]:
    """The steps of autograd that made the values."""
    seen: set[Node] = set()
    waiting = [values.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
            yield node


def _cleaned(inward: tuple[Tensor | None, ...], outward: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
    return tuple(None if gradient is None else torch.nan_to_num(gradient, 0.0, 0.0, 0.0) for gradient in inward)
