"""Gradients that are NaN or infinite: which images have them, and how attacks go on nevertheless.

A NaN compares as false and its sign is 0: whoever follows it stands still and looks robust. Most come from a product of
backpropagation, 0 * infinity, such as

    z_y = log(p_y / (1 - p_y)),    dz_y / dp_y = infinity where p_y is rounded to 1

of which a loss of the other scores, or of one that stands for infinity (`carso.audit.surface`), asks for 0 times as
much. Such a product is 0: a score on which the loss does not depend lends it no gradient, whatever its own.
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
