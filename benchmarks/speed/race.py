"""A race: several ways to do the same work, timed in turns within one run.

    A B C A B C ...    ratio of B to A in round i = t_Bi / t_Ai

A machine that slows down slows every contestant of the round, so the ratios hold when the seconds do not. Where other
programs take turns at the cores, the processor's seconds of this process and its children are the better clock.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, TypeAlias

import torch

from carso.progress import track

Contestant = Callable[[], object]
Clock: TypeAlias = Literal["wall", "processor"]


def processor_seconds() -> float:
    """Of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


CLOCKS: Mapping[Clock, Callable[[], float]] = {"wall": time.perf_counter, "processor": processor_seconds}


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


@dataclass(frozen=True)
class Finish:
    """By contestant: seconds in each round, and what came out of every round, that which does not count first."""

    seconds: Mapping[str, list[float]]
    results: Mapping[str, list[object]]

    @property
    def rounds(self) -> list[dict[str, object]]:
        """What came out, round by round."""
        turns = zip(*self.results.values(), strict=True)
        return [dict(zip(self.results, turn, strict=True)) for turn in turns]


def race(name: str, contestants: Mapping[str, Contestant], rounds: int, clock: Clock = "wall") -> Finish:
    """Run every contestant once in each round, after one round that does not count, each from the round's seed.

    Args:
        name: of the work, for the progress shown.
        contestants: by name; each call does the whole work once.
        rounds: how many count.
        clock: what seconds are counted by.
    """
    now = CLOCKS[clock]
    results: dict[str, list[object]] = {each: [] for each in contestants}
    seconds: dict[str, list[float]] = {each: [] for each in contestants}
    for turn in track(range(rounds + 1), name):
        for each, contestant in contestants.items():
            torch.manual_seed(turn)
            started = now()
            results[each].append(contestant())
            seconds[each].append(now() - started)
    return Finish({each: values[1:] for each, values in seconds.items()}, results)


def ratio(seconds: Mapping[str, Sequence[float]], slower: str, faster: str) -> Spread:
    """How many times longer `slower` took than `faster`, round by round."""
    return Spread.of([a / b for a, b in zip(seconds[slower], seconds[faster], strict=True)])
