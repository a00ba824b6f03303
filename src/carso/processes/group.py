"""The group of processes: who is one of it, what the first does for all, and how work is shared.

    process r of P has the units r, r + P, r + 2P, ... of any work, and what becomes of them is known to all; of units
    that take unequally long, each process takes the next that nobody has begun, and does it alone

`torchrun` tells each process its rank, their number and where they meet, in its environment. Whoever does not join is
alone, whatever that says: a function of the library then does all of its work and waits for nobody.

Source: torch.distributed, with gloo between processors and NCCL between GPUs.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from carso.errors import CarsoError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
U = TypeVar("U")

TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What the environment says of a process that was started with others."""

PATIENCE = timedelta(days=7)
"""How long the others wait for the first one's work; who dies is noticed at once."""

GRACE = 5.0
"""Seconds for which another process keeps its error to itself: the first one mostly meets and says the same."""

_together = False
_meeting: Any = None
"""The store of a process that has joined, in which those that work together count."""

_queues = itertools.count()


def started() -> int:
    """How many processes were started together, by what the environment says."""
    return int(os.environ["WORLD_SIZE"]) if all(os.environ.get(name) for name in TOLD) else 1


@contextmanager
def joined() -> Iterator[None]:
    """Be one of the processes that were started together, if there are several; all but the first are mute."""
    if started() == 1:
        yield
        return
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    gpus = torch.cuda.device_count()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % gpus)
    store, place, size = next(rendezvous("env://", timeout=PATIENCE))
    global _meeting
    _meeting = store = PrefixStore(_attempt(), store)
    between = "cpu:gloo,cuda:nccl" if gpus else "gloo"
    distributed.init_process_group(between, timeout=PATIENCE, store=store, rank=place, world_size=size)
    with _set(True), ExitStack() as muted:
        if rank():
            nowhere = muted.enter_context(open(os.devnull, "w", encoding="utf-8"))
            muted.enter_context(redirect_stdout(nowhere))
            muted.enter_context(redirect_stderr(nowhere))
        try:
            yield
        except BaseException as error:
            if rank() and not (isinstance(error, SystemExit) and not error.code):
                time.sleep(GRACE)
            raise
    distributed.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """Work as if there were no other process."""
    with _set(False):
        yield


def _attempt() -> str:
    """Which start of the processes on one machine this is: torchrun keeps the addresses of those before.

    Each of several machines counts its own starts; there TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 has torchrun forget.
    """
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") if os.environ.get("GROUP_WORLD_SIZE") == "1" else "0"


@contextmanager
def _set(together: bool) -> Iterator[None]:
    global _together
    before, _together = _together, together
    try:
        yield
    finally:
        _together = before


def count() -> int:
    """P, how many processes work together; 1 for one that is alone."""
    return _distributed().get_world_size() if _together else 1


def rank() -> int:
    """r, the place of this process among them, from 0."""
    return _distributed().get_rank() if _together else 0


def by_first(work: Callable[[], T]) -> T:
    """What some work of the first process returns, to all of them, once all have come this far.

    Raises:
        CarsoError: the first one's, in all.
    """
    if not _together:
        return work()
    _distributed().barrier()
    found: list[Any] = [None]
    if rank() == 0:
        with alone():
            found = [_tried(work)]
    _distributed().broadcast_object_list(found)
    result: T = _given(found[0])
    return result


def shared(units: Sequence[U], work: Callable[[U], T]) -> Iterator[T]:
    """What becomes of every unit of some work, in order; of any P that follow each other, each process does one.

    Args:
        units: the same ones in every process.
        work: what is done with one; it must not depend on who does it.

    Raises:
        CarsoError: of the first unit that ends in one, in all processes.
    """
    if not _together:
        yield from map(work, units)
        return
    for start in range(0, len(units), count()):
        some, found = units[start : start + count()], [None] * count()
        mine = _tried(partial(work, some[rank()])) if rank() < len(some) else None
        _distributed().all_gather_object(found, mine)
        yield from map(_given, found[: len(some)])


def divided(units: Sequence[U], work: Callable[[U], object]) -> Iterator[int]:
    """Do some work with every unit, each in one process, which is alone meanwhile; all are done at the end.

    Args:
        units: the same ones in every process.
        work: what is done with one; it must not depend on who does it, nor on the others.

    Yields:
        how many are done at least, after each that this process has done.

    Raises:
        CarsoError: of a unit that ends in one, in all processes, once each has ended what it had begun.
    """
    if not _together:
        for done, unit in enumerate(units, start=1):
            work(unit)
            yield done
        return
    queue, error = f"queue {next(_queues)}", None
    while error is None and (place := _meeting.add(queue, 1) - 1) < len(units):
        with alone():
            _, error = _tried(partial(work, units[place]))
        yield max(1, place + 2 - count())
    if error is not None:
        _meeting.add(queue, len(units))
    errors: list[CarsoError | None] = [None] * count()
    _distributed().all_gather_object(errors, error)
    for each in errors:
        if each is not None:
            raise each


def sum_over(tensors: Iterable[Tensor]) -> None:
    """Put into each tensor, in place, the sum of what the processes have in it."""
    if _together:
        for tensor in tensors:
            _distributed().all_reduce(tensor)


def as_first(tensors: Iterable[Tensor]) -> None:
    """Put into each tensor, in place, what the first process has in it."""
    if _together:
        for tensor in tensors:
            _distributed().broadcast(tensor, 0)


def _tried(work: Callable[[], T]) -> tuple[T | None, CarsoError | None]:
    """What some work returns, or the error of the user's with which it ends; of any other this process ends."""
    try:
        return work(), None
    except CarsoError as error:
        return None, error


def _given(outcome: Any) -> Any:
    found, error = outcome
    if error is not None:
        raise error
    return found


def _distributed() -> Any:
    """Imported where several processes are at work, so that the command line answers without torch."""
    return sys.modules["torch.distributed"]
