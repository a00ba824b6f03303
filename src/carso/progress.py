"""Progress and time left, on standard error, of whatever takes more than two seconds, and notes on what was done.

On a terminal these are bars; elsewhere, so that logs stay readable, a plain line at most every 15 seconds. A bar opened
within another counts as the step of it that is under way. With a done of total steps, a0 of them before this run, after
a time t

    time left = t (total - a) / (a - a0).
"""

from __future__ import annotations

import operator
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from time import monotonic
from typing import TypeVar

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

DELAY = 2.0
"""Seconds before anything is shown."""

INTERVAL = 15.0
"""Seconds between two lines where there is no terminal."""


class Bar:
    """How far a piece of work has come; made by `progress`.

    Attributes:
        description: what is being done.
        total: the number of steps, or None where it is unknown.
        completed: the steps done so far.
    """

    def __init__(self, description: str, total: int | float | None, completed: int | float) -> None:
        self.description, self.total, self.completed = description, total, completed
        self.inner: Bar | None = None
        self.step: int | float = 1
        self._before, self._start = completed, monotonic()

    def advance(self, steps: int | float = 1) -> None:
        """Say that `steps` more steps are done."""
        self.completed += steps
        _display.report()

    @property
    def elapsed(self) -> float:
        """Seconds since the bar was opened."""
        return monotonic() - self._start

    @property
    def done(self) -> float:
        """The steps done so far, with the part of a step that a bar within this one has done."""
        inner = self.inner
        done = self.completed + self.step * ((inner.fraction or 0.0) if inner else 0.0)
        return done if self.total is None else min(done, float(self.total))

    @property
    def fraction(self) -> float | None:
        """The share of the work that is done, or None where the total is unknown."""
        return self.done / self.total if self.total else None

    @property
    def left(self) -> float | None:
        """Seconds left, or None where they cannot be told yet."""
        done = self.done
        if not self.total or done <= self._before:
            return None
        return self.elapsed * (self.total - done) / (done - self._before)

    @property
    def amount(self) -> str:
        """How much is done, in words."""
        return f"{self.completed} done" if self.fraction is None else f"{self.fraction:.0%}"

    @property
    def time(self) -> str:
        """The time left, in words, or else the time taken."""
        return f"{duration(self.elapsed)} so far" if self.left is None else f"{duration(self.left)} left"


@contextmanager
def progress(description: str, total: int | float | None = None, completed: int | float = 0) -> Iterator[Bar]:
    """Show the progress of the work in a `with` block, which calls `advance` on the bar that it gets.

    Args:
        description: what is being done.
        total: the number of steps, if known.
        completed: steps that an earlier run did; they count as done but not for the speed.
    """
    bar = Bar(description, total, completed)
    _display.open(bar)
    try:
        yield bar
    finally:
        _display.close(bar)


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Iterate and show the progress; `total` is needed only where the iterable does not know its length."""
    with progress(description, total or operator.length_hint(iterable) or None) as bar:
        for item in iterable:
            yield item
            bar.advance()


def shown(parts: Sequence[T], description: str) -> Iterable[T]:
    """The parts of a work, with their progress where there are several."""
    return parts if len(parts) == 1 else track(parts, description)


def weighed(items: Mapping[T, int | float], description: str) -> Iterator[T]:
    """Iterate over what takes some steps each, such as seconds, and show the progress."""
    with progress(description, sum(items.values()) or None) as bar:
        for item, steps in items.items():
            bar.step = steps
            yield item
            bar.advance(steps)


def note(text: str) -> None:
    """Say something about the work in a line, above the bars that are shown; the same words once in a process."""
    _display.note(text)


def duration(seconds: float) -> str:
    """Seconds in words: "8 s", "3 min 20 s", "2 h 05 min"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class _Display:
    """The bars that are open, outermost first, and where they are shown."""

    def __init__(self) -> None:
        self.bars: list[Bar] = []
        self._lock = threading.RLock()
        self._live: Live | None = None
        self._timer: threading.Timer | None = None
        self._console = Console(stderr=True)
        self._plain = True
        self._last_line = float("-inf")
        self._noted: set[str] = set()

    def open(self, bar: Bar) -> None:
        with self._lock:
            if self.bars:
                self.bars[-1].inner = bar
            self.bars.append(bar)
            if len(self.bars) == 1:
                self._begin()

    def close(self, bar: Bar) -> None:
        with self._lock:
            self.bars.remove(bar)
            for other in self.bars:
                other.inner = None if other.inner is bar else other.inner
            if not self.bars:
                self._end()

    def report(self) -> None:
        """Where there is no terminal, write a line if one is due."""
        if not self._plain:
            return
        with self._lock:
            now = monotonic()
            if self.bars and self.bars[0].elapsed >= DELAY and now - self._last_line >= INTERVAL:
                self._last_line = now
                shown = [bar for bar in self.bars if bar.elapsed >= DELAY]
                print(
                    "; ".join(f"{bar.description}: {bar.amount}, {bar.time}" for bar in shown),
                    file=self._console.file,
                )

    def note(self, text: str) -> None:
        """Write a line that was not written before."""
        with self._lock:
            if text not in self._noted:
                self._noted.add(text)
                console = self._console if self._live else Console(stderr=True)
                console.print(Text(text.encode(errors="backslashreplace").decode()), soft_wrap=True)

    def _begin(self) -> None:
        self._console = console = Console(stderr=True)
        self._plain = not console.file.isatty() or console.is_dumb_terminal
        if not self._plain:
            self._timer = threading.Timer(DELAY, self._show)
            self._timer.daemon = True
            self._timer.start()

    def _show(self) -> None:
        with self._lock:
            if self.bars and self._timer is threading.current_thread():
                self._live = Live(
                    console=self._console,
                    get_renderable=self._table,
                    transient=True,
                    refresh_per_second=5,
                    redirect_stdout=sys.stdout.isatty(),
                )
                self._live.start()

    def _end(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._live:
            self._live.stop()
        self._timer = self._live = None

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        for bar in list(self.bars):
            if bar.elapsed >= DELAY:
                share = bar.fraction
                meter = ProgressBar(1, share or 0, width=30, pulse=share is None)
                table.add_row(Text(bar.description), meter, Text(bar.amount, justify="right"), Text(bar.time))
        return table


_display = _Display()
