"""A step of descent that goes on in twice as many portions once memory has run out in it.

    a batch in p portions    takes about 1/p of the memory of its activations, and sums to the same gradient
                             (`carso.training.together`)

Of the step that failed nothing stays: the weights had not moved, chance and the buffers are put back. A step that
failed while its weights moved, one that several processes share, and one that fails a second time are not made again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from carso.errors import of_memory
from carso.processes.group import count
from carso.progress import note
from carso.training.optimise import Optimisation
from carso.training.replay import Replay, Step

State: TypeAlias = tuple[list[Tensor], list[Tensor]]


class Thrifty:
    """Calls the step that is made for some portions, and another one for twice as many once memory has run out.

    Args:
        made: the step on batches in so many portions.
        optimisation: whose module the step trains.
        portions: of a batch, at first.
        most: that a batch can have.
    """

    def __init__(self, made: Callable[[int], Step], optimisation: Optimisation, portions: int, most: int) -> None:
        self.made = made
        self.optimisation = optimisation
        self.portions = portions
        self.most = most if count() == 1 else portions
        self.step = self._replayed()

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The step's output; on CUDA it is overwritten by the next call."""
        if self.step.graph is not None:
            return self.step(*inputs)
        before = self._state()
        try:
            return self.step(*inputs)
        except (RuntimeError, MemoryError) as error:
            if not of_memory(error) or not self.optimisation.settled or 2 * self.portions > self.most:
                raise
        self._put_back(before)
        self.portions = self.most = 2 * self.portions
        self.step = self._replayed()
        note(f"memory ran out; going on with batches in {self.portions} portions, as by accumulate: {self.portions}")
        return self.step(*inputs)

    def _replayed(self) -> Replay:
        return Replay(self.made(self.portions), self.portions == 1)

    def _state(self) -> State:
        """The buffers, and torch's generators, before a step."""
        return [buffer.clone() for buffer in self._module.buffers()], [torch.get_rng_state(), *_on_gpus()]

    def _put_back(self, state: State) -> None:
        buffers, (here, *on_gpus) = state
        with torch.no_grad():
            for buffer, before in zip(self._module.buffers(), buffers, strict=True):
                buffer.copy_(before)
        torch.set_rng_state(here)
        if on_gpus:
            torch.cuda.set_rng_state_all(on_gpus)

    @property
    def _module(self) -> nn.Module:
        return self.optimisation.module


def _on_gpus() -> list[Tensor]:
    """The states of the generators of all GPUs that are in use."""
    return torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
