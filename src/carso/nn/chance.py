"""Random numbers: on which device they are drawn, and generators that are seeded for a while.

Numbers are drawn on the generator's device, so that one generator gives the same on every device.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor


def home(generator: Generator | None, device: torch.device) -> torch.device:
    """Where draws are made: where the generator lives, else on the device."""
    return device if generator is None else generator.device


def signs(shape: Sequence[int], like: Tensor, generator: Generator | None = None) -> Tensor:
    """-1 and 1 of that shape, as likely as each other, in the dtype of `like` and where it lives."""
    bits = torch.randint(2, tuple(shape), generator=generator, device=home(generator, like.device))
    return (2 * bits - 1).to(like)


def forked(enabled: bool = True) -> AbstractContextManager[None]:
    """Give torch's generators, on the CPU and on every GPU, their states back after."""
    return torch.random.fork_rng(range(torch.cuda.device_count()), enabled=enabled)


@contextmanager
def sown(seed: int) -> Iterator[None]:
    """Seed torch's generators on the CPU and on every GPU that is in use; give each its state back after.

    Of a GPU that is not yet in use `torch.manual_seed` would keep the seed until it is.
    """
    in_use = torch.cuda.is_initialized() or torch.backends.mps.is_available()
    with forked() if in_use else torch.random.fork_rng([]):
        (torch.manual_seed if in_use else torch.default_generator.manual_seed)(seed)
        yield


@contextmanager
def pinned(seed: int) -> Iterator[None]:
    """Seed the global generators of torch (on every device in use), numpy and Python; give each its state back after.

    Args:
        seed: from 0 to 2^63 - 1; numpy takes its last 32 bits.
    """
    before = shared_states()
    try:
        with sown(seed):
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        rewind(before)


def shared_states() -> tuple[Any, Any]:
    """The states of numpy's and Python's global generators, which all threads share; equal if nothing was drawn."""
    array: Any = np.random.get_state()
    return (array[0], array[1].tolist(), *array[2:]), random.getstate()


def rewind(states: tuple[Any, Any]) -> None:
    """Give numpy's and Python's global generators these states, whoever drew from them since."""
    np.random.set_state(states[0])
    random.setstate(states[1])
