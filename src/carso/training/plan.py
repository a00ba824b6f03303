"""What a run costs, said before it starts: a measured step of each stage, times the number of its steps.

    bytes      4 w (1 + 1 + 2 + 1) + n p + kept      w weights, their gradients, two moments and average; n images of p
                                                     bytes in memory; what is kept; activations come on top
    t = t_0 + (n - m) (t_0 - t_1) / (m - m_1) + E (B t_step + t_val n' / m')
                                                     t_0, t_1: making the stage of m, or a few, m_1, of its n images
                                                     t_step, t_val: a batch, and validating on m' of n' images
                                                     E epochs of B batches

The trial is made with networks of its own and leaves no trace in the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median
from typing import TypeVar

import torch

from carso.data import Dataset
from carso.progress import duration, note
from carso.training.loop import Stage, batches_of, beginning, limited, steps_of
from carso.training.optimise import Optimisation
from carso.training.purifier import PurifierStage, kept_bytes
from carso.training.recipe import Schedule
from carso.training.replay import Replay

T = TypeVar("T")

SHORT = 10.0
"""Seconds below which nothing is said of what a run will cost."""

FEW = 20
"""Batches up to which a training is sooner done than measured."""

TRIALS, ENOUGH = 5, 1.0
"""Batches that are timed, at most, and the seconds after which no further one is begun."""


@dataclass(frozen=True)
class Pending:
    """A stage that is still to be carried out.

    Attributes:
        name: as in history and checkpoints.
        schedule: its part of the recipe.
        done: epochs that a checkpoint holds already.
        train: the images that it learns from.
        held_out: those on which it is validated.
        build: the stage with fresh networks, on the first so many training and held-out images.
    """

    name: str
    schedule: Schedule
    done: int
    train: Dataset
    held_out: Dataset
    build: Callable[[int, int], Stage] = field(repr=False)


@dataclass(frozen=True)
class Cost:
    """What a stage will take.

    Attributes:
        name: of the stage.
        epochs: still to be done.
        batches: in each of them.
        batch: seconds of one, with all its passes.
        setup: seconds before the first.
        validation: seconds after each epoch.
        weights: how many it trains.
        memory: bytes, at least.
    """

    name: str
    epochs: int
    batches: int
    batch: float
    setup: float
    validation: float
    weights: int
    memory: int = 0

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.setup + self.epochs * (self.batches * self.batch + self.validation)

    def of(self, schedule: Schedule) -> Cost:
        """The cost with the epochs, and the batches of each, of another schedule."""
        batches = min(self.batches, schedule.batches or self.batches)
        return replace(self, epochs=schedule.epochs, batches=batches)

    def __str__(self) -> str:
        """In a line."""
        steps = f"{self.epochs} epochs of {self.batches:,} batches, {1000 * self.batch:,.0f} ms each"
        size = f"{self.weights:,} weights, at least {_size(self.memory)} of memory"
        return f"{self.name}: {size}; {steps}: {duration(self.seconds)}"


def cost_of(pending: Pending) -> Cost:
    """The cost of a stage, from a trial on a batch of its training images and of its held-out images."""
    schedule, train, held_out = pending.schedule, pending.train, pending.held_out
    few, some = min(schedule.batch, len(train)), min(schedule.batch, len(held_out))
    with limited(schedule.threads), beginning(0, "trial", pending.name):
        least = min(2, few)
        pending.build(least, 1)
        _, fixed = timed(lambda: pending.build(least, 1))
        stage, built = timed(lambda: pending.build(few, some))
        each = max(0.0, built - fixed) / max(1, few - least)
        batch = _batch(stage)
        _, validating = timed(stage.validate)
    weights = sum(p.numel() for p in stage.module.parameters())
    return Cost(
        name=pending.name,
        epochs=schedule.epochs - pending.done,
        batches=batches_of(len(train), schedule),
        batch=batch,
        setup=built + each * (len(train) - few),
        validation=validating * len(held_out) / some,
        weights=weights,
        memory=20 * weights + train.held + _kept(stage, train),
    )


def _kept(stage: Stage, train: Dataset) -> int:
    """Bytes of attacked images and representations that a stage would keep."""
    return kept_bytes(stage.schedule, train, stage.module.neurons) if isinstance(stage, PurifierStage) else 0


def _size(count: int) -> str:
    """Bytes as people write them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _batch(stage: Stage) -> float:
    """Seconds of one batch: the median of some, after those that warm up."""
    optimisation = Optimisation(stage.module, stage.schedule, stage.passes)
    steps = steps_of(stage, optimisation)
    indices = torch.arange(stage.size, device=stage.device)
    (images,) = stage.train.batches([indices])

    def batch() -> None:
        for step in steps:
            optimisation.prepare()
            step(images, indices).item()

    stage.begin(0)
    stage.module.train()
    for _ in range(Replay.WARMUP + 1 if stage.device.type == "cuda" else 1):
        batch()
    taken: list[float] = []
    while len(taken) < TRIALS and sum(taken) < ENOUGH:
        taken.append(timed(batch)[1])
    return median(taken)


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """What some work returns, and the seconds it took."""
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def costs_of(pending: Sequence[Pending]) -> list[Cost]:
    """What each stage will take; what has hardly any steps is not tried, and left out."""
    return [cost_of(stage) for stage in pending if _is_long(stage)]


def announce(pending: Sequence[Pending]) -> None:
    """Say what the stages will take, if that is more than a few seconds."""
    costs = costs_of(pending)
    total = sum(cost.seconds for cost in costs)
    if total >= SHORT:
        for cost in costs:
            note(str(cost))
        note(f"training will take about {duration(total)}")


def _is_long(pending: Pending) -> bool:
    return batches_of(len(pending.train), pending.schedule) * (pending.schedule.epochs - pending.done) > FEW
