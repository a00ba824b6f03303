"""Work on many small things in processes of their own, in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from carso.errors import DataError

T = TypeVar("T")
R = TypeVar("R")

FEW = 256
"""Things for which it is not worth starting processes."""

MOST = 16
"""Processes at most."""


def each(work: Callable[[T], R], things: Sequence[T], waiting: int) -> Iterator[R]:
    """`work` on each of the things, in their order; at most so many results wait to be taken.

    Raises:
        DataError: if a process is ended from outside.
    """
    processes = min(MOST, os.cpu_count() or 1)
    if len(things) < FEW or processes == 1:
        yield from map(work, things)
        return
    context = _context()
    try:
        with ProcessPoolExecutor(processes, context, _leave_interrupts) as pool:
            for start in range(0, len(things), waiting):
                yield from pool.map(work, things[start : start + waiting], chunksize=_share(waiting, processes))
    except BrokenProcessPool:
        raise DataError(_ended(context.get_start_method())) from None


def _ended(started: str) -> str:
    """What may have ended a process, where processes are started by that method, and what to do about it."""
    known = "a process that decoded pictures was ended from outside, as happens where memory runs out"
    if started == "fork":
        return f"{known}; free some"
    return f"{known} or the script that loads them lacks `if __name__ == '__main__':`; free some, or add that line"


def _share(waiting: int, processes: int) -> int:
    return max(1, min(16, waiting // processes))


def _context() -> multiprocessing.context.BaseContext:
    """A fork where it is safe for what only decodes: others run the user's script again, which may not expect it."""
    return multiprocessing.get_context("fork" if sys.platform == "linux" else None)


def _leave_interrupts() -> None:
    """Ctrl-C is for the process that waits for us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
