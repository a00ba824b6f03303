"""A monitor of numbers that are not finite.

NaN compares as false, so an attack that meets it stands still and its target looks robust. Whoever attacks listens, and
learns of every answer and every gradient of the model, however deep in the attack it was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor


class Monitor:
    """Hears how many rows of one answer, or of one gradient, were not finite, at most."""

    def __init__(self) -> None:
        self._most: Tensor | None = None

    @property
    def most(self) -> int:
        """That number; asking for it waits for the device."""
        return 0 if self._most is None else int(self._most)

    def note(self, rows: Tensor) -> None:
        """Look whether rows (B, ...) are finite, without a wait for the device."""
        if not _surely_finite(rows):
            low, high = rows.detach().reshape(len(rows), -1).aminmax(dim=1)
            bad = (~(low.isfinite() & high.isfinite())).sum()
            self._most = bad if self._most is None else torch.maximum(self._most, bad)

    def cleaned(self, rows: Tensor) -> Tensor:
        """The rows with zeros for whatever is not finite, which is noted."""
        if _surely_finite(rows):
            return rows
        self.note(rows)
        return rows.nan_to_num(0.0, 0.0, 0.0)


def _surely_finite(rows: Tensor) -> bool:
    """Whether a glance is enough: one sum, which NaN and infinity survive, where there is no device to wait for."""
    return not (rows.ndim and rows.numel()) or (rows.is_cpu and math.isfinite(rows.detach().sum().item()))


_MONITOR: ContextVar[Monitor | None] = ContextVar("monitor", default=None)


@contextmanager
def monitored(monitor: Monitor | None) -> Iterator[None]:
    """A context in which this monitor, or none, learns of what is not finite."""
    token = _MONITOR.set(monitor)
    try:
        yield
    finally:
        _MONITOR.reset(token)


def monitor_in_use() -> Monitor | None:
    """Whose monitor it is now."""
    return _MONITOR.get()


def note(rows: Tensor) -> None:
    """Let whoever listens look at rows (B, ...)."""
    monitor = monitor_in_use()
    if monitor is not None:
        monitor.note(rows)


def cleaned(rows: Tensor) -> Tensor:
    """`Monitor.cleaned` of whoever listens; the rows as they are if nobody does."""
    monitor = monitor_in_use()
    return rows if monitor is None else monitor.cleaned(rows)
