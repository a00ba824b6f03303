"""The threads of a training: how many, and what they make of numbers next to nothing.

Where a network is sure of an image, gradients and their squares fall below the least normal float; processors compute
with such numbers, denormals, many times slower, and no weight depends on them. A training on one thread takes them for
zeros. Of several threads torch tells one alone, so that a result would depend on the thread which computed it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Torch's threads set to a number, if there is one, and then to what they were; a single one flushes denormals."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with flushed() if torch.get_num_threads() == 1 else nullcontext():
            yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def flushed() -> Iterator[None]:
    """Denormals are zeros on this thread, if its processor can, and then what they were before."""
    before = flushes()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def flushes() -> bool:
    """Whether denormals are zeros on this thread."""
    return (torch.tensor(torch.finfo(torch.float32).tiny) / 2).item() == 0
