"""A race: several ways to do the same work, timed in turns within one run.

    A B C A B C ...    ratio of B to A in round i = t_Bi / t_Ai

A machine that slows down slows every contestant of the round, so the ratios hold when the seconds do not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from carso.progress import track

Contestant = Callable[[], object]


@dataclass(frozen=True)
class Spread:
    """The median of several measurements, with the least and the largest."""

    median: float
    least: float
    largest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(median(values), min(values), max(values))


def race(name: str, contestants: Mapping[str, Contestant], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after one round that does not count.

    Args:
        name: of the work, for the progress shown.
        contestants: by name; each call does the whole work once.
        rounds: how many count.
    """
    for contestant in contestants.values():
        contestant()
    seconds: dict[str, list[float]] = {each: [] for each in contestants}
    for _ in track(range(rounds), name):
        for each, contestant in contestants.items():
            started = time.perf_counter()
            contestant()
            seconds[each].append(time.perf_counter() - started)
    return seconds


def ratio(seconds: Mapping[str, Sequence[float]], slower: str, faster: str) -> Spread:
    """How many times longer `slower` took than `faster`, round by round."""
    return Spread.of([a / b for a, b in zip(seconds[slower], seconds[faster], strict=True)])
