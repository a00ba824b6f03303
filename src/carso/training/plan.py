"""The plan of a training: how large it is and how long it will take, said before it begins.

bytes      4 w (1 + 1 + 2 + 1) + n p + kept      w weights, their gradients, two moments and average; n images of p
                                                 bytes in memory; what is kept beside; activations come on top
seconds    t_0 n / b + E (s t + t_v m / b)       by a trial of one batch of b images: t_0 to prepare, t a step, t_v
                                                 to validate; E epochs of s steps, m held-out images
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from torch import nn

from carso.data import Dataset
from carso.progress import duration
from carso.training.loop import Stage, fit
from carso.training.recipe import Schedule

M = TypeVar("M", bound=nn.Module)
S = TypeVar("S", bound=Schedule)

StageOf: TypeAlias = Callable[[str, M, S, Dataset, Dataset], Stage]
"""Name, module, schedule, training and held-out images to a stage."""

FEW = 20
"""Steps up to which a training is sooner done than measured."""

BRIEF = 20.0
"""Seconds of a trial up to which it is repeated, because what is done for the first time takes longer."""


@dataclass(frozen=True)
class Plan:
    """Sizes and time of a training.

    Attributes:
        name: of the stage.
        weights: how many are trained.
        memory: bytes, at least.
        steps: of the optimiser.
        seconds: all of them take, with what is done before and between them.
    """

    name: str
    weights: int
    memory: int
    steps: int
    seconds: float

    def __str__(self) -> str:
        """In a sentence."""
        return (
            f"{self.name}: {self.weights:,} weights ({_size(4 * self.weights)}), at least {_size(self.memory)} of "
            f"memory; {self.steps:,} steps take about {duration(self.seconds)}, by a trial of one batch"
        )


def plan(
    name: str, module: M, schedule: S, train: Dataset, validation: Dataset, stage_of: StageOf[M, S], kept: int
) -> Plan | None:
    """The plan of a stage, from a trial on a copy of its module; None where it has hardly any steps.

    Args:
        name: of the stage.
        module: what is to be trained; stays as it is.
        schedule: how.
        train: images.
        validation: held-out images.
        stage_of: makes the stage.
        kept: bytes that the stage keeps beside images and weights.
    """
    batches = max(1, len(train) // schedule.batch)
    if batches * schedule.epochs <= FEW:
        return None
    some, held_out = train[: schedule.batch], validation[: schedule.batch]
    trial = schedule.model_copy(update={"epochs": 1})
    began = time.perf_counter()
    stage = stage_of(f"{name}, trial of a batch", copy.deepcopy(module), trial, some, held_out)
    prepared = time.perf_counter() - began
    step, validated = _measured(stage)
    epoch = batches * step + validated * len(validation) / len(held_out)
    weights = sum(value.numel() for value in module.parameters())
    return Plan(
        name=name,
        weights=weights,
        memory=20 * weights + train.held + kept,
        steps=batches * stage.passes * schedule.epochs,
        seconds=prepared * len(train) / len(some) + schedule.epochs * epoch,
    )


def _measured(stage: Stage) -> tuple[float, float]:
    """Seconds of an epoch of a single batch, without validating, and of validating."""
    took = _timed(lambda: fit(stage, 0, "trial"))
    if took < BRIEF:
        took = _timed(lambda: fit(stage, 0, "trial"))
    validated = _timed(stage.validate)
    return max(took - validated, 0.0), validated


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _size(count: int) -> str:
    """Bytes as people write them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
