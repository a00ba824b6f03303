"""The loop: epochs of shuffled batches, with checkpoints, history and progress.

Epoch e of a stage starts from a seed of its own, a hash of (seed, stage, e). Order, dropout, random starts and
latents all follow from it, so a run that stopped after any epoch goes on to the very weights of an unbroken run.

Of several processes each learns from its rows of every batch (`carso.training.together`), and all come to the same
weights, those of one process up to rounding.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, SupportsIndex, runtime_checkable

import torch
from torch import Tensor, nn

from carso.data import Dataset
from carso.errors import DivergenceError, RecipeError
from carso.nn.chance import forked, pinned
from carso.processes.dealing import among_all, dealing
from carso.processes.group import as_first, by_first, count, sum_over
from carso.progress import track
from carso.training.checkpoint import load_checkpoint, save_checkpoint
from carso.training.optimise import Optimisation
from carso.training.recipe import Schedule
from carso.training.replay import Step
from carso.training.thrift import Thrifty
from carso.training.together import in_portions, weighed
from carso.types import Images

SHARE_OF_TIME_FOR_CHECKPOINTS = 0.05

Metrics = Mapping[str, Tensor]


@runtime_checkable
class Stage(Protocol):
    """One network in training."""

    @property
    def name(self) -> str:
        """In progress, history and checkpoints."""

    @property
    def module(self) -> nn.Module:
        """What is trained."""

    @property
    def schedule(self) -> Schedule:
        """How it is trained."""

    @property
    def size(self) -> int:
        """How many items an epoch goes through."""

    @property
    def passes(self) -> int:
        """Optimiser steps per batch."""

    @property
    def device(self) -> torch.device:
        """Where it is trained."""

    @property
    def train(self) -> Dataset:
        """The items, whose images are handed out on the device."""

    def loss(self, images: Images, indices: Tensor, part: int) -> Tensor:
        """The batch's loss, scalar, for items `indices`, their images and pass `part`; no wait for the device."""

    def begin(self, epoch: int) -> None:
        """Set what changes from epoch to epoch; the first is 0."""

    def validate(self) -> dict[str, float]:
        """Figures on held-out images."""


Told = Callable[[Stage, dict[str, float]], object]


def seed_of(seed: SupportsIndex, *names: object) -> int:
    """A 63-bit seed that depends on all its arguments."""
    digest = hashlib.sha256(repr((int(seed), *names)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


@contextmanager
def beginning(seed: int, *names: object) -> Iterator[None]:
    """The global generators of torch, numpy and Python set to `seed_of(...)`, and restored afterwards.

    In between torch's default dtype is float32, whatever it was: in others, draws and fresh layers would differ.
    """
    with forked(), pinned(seed_of(seed, *names)), in_float32():
        yield


@contextmanager
def in_float32() -> Iterator[None]:
    """Torch's default dtype set to float32 and restored afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def limited(threads: int | None) -> Iterator[None]:
    """Torch's threads set to a number, if there is one, and restored afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def batches_of(size: int, schedule: Schedule) -> int:
    """How many batches an epoch over `size` images has."""
    return min(max(1, size // schedule.batch), schedule.batches or size)


def fit(
    stage: Stage, seed: int, fingerprint: str, checkpoint: Path | None = None, told: Told | None = None
) -> list[dict[str, float]]:
    """Train `stage.module` in place and return one entry of history per epoch.

    Args:
        stage: what to train and on what.
        seed: root of all randomness.
        fingerprint: of the recipe, and of whatever else decides the weights; a checkpoint of another one is refused.
        checkpoint: where to leave checkpoints and to go on from, if anywhere.
        told: called after every epoch with the stage and the epoch's figures, as `carso.training.watching` does.

    Raises:
        DivergenceError: after the first epoch whose loss or weights are not finite; an earlier checkpoint stays.
        RecipeError: if a batch has fewer images than there are processes.
        RunError: if the checkpoint belongs to another fingerprint or seed.
        WeightsError: if the checkpoint is damaged.
    """
    _check_sharing(stage)
    with limited(stage.schedule.threads):
        return _fit(stage, seed, fingerprint, checkpoint, told)


def _check_sharing(stage: Stage) -> None:
    size, portions = min(stage.schedule.batch, stage.size), stage.schedule.accumulate
    if size < count():
        raise RecipeError(f"{stage.name}: {count()} processes share a batch of {size} images; start at most {size}")
    if size < count() * portions:
        what = f"{count()} processes in {portions} portions each" if count() > 1 else f"{portions} portions"
        raise RecipeError(
            f"{stage.name}: accumulate: a batch of {size} images has no {what}; at most {size // count()}"
        )
    if portions > 1 and size < _fewest(stage) * portions:
        raise RecipeError(
            f"{stage.name}: accumulate: batch norm needs two images in a portion, and {size} make at most {size // 2}"
        )


def _fewest(stage: Stage) -> int:
    """Images of a portion, at least."""
    return 2 if any(isinstance(layer, nn.BatchNorm1d) for layer in stage.module.modules()) else 1


def _fit(
    stage: Stage, seed: int, fingerprint: str, checkpoint: Path | None, told: Told | None
) -> list[dict[str, float]]:
    schedule = stage.schedule
    batches = batches_of(stage.size, schedule)
    optimisation = Optimisation(stage.module, schedule, batches * stage.passes)
    history: list[dict[str, float]] = []
    mark = f"{fingerprint}/{seed}/{stage.name}"
    if checkpoint is not None and checkpoint.exists():
        history = load_checkpoint(checkpoint, stage.module, optimisation, mark)
    as_first(stage.module.state_dict().values())
    steps = steps_of(stage, optimisation)
    due = 0.0
    for epoch in track(range(len(history), schedule.epochs), f"{stage.name}, {schedule.epochs} epochs"):
        stage.begin(epoch)
        with beginning(seed, stage.name, epoch):
            entry = {"epoch": float(epoch + 1), "rate": optimisation.rate}
            entry["loss"] = _epoch(stage, epoch, optimisation, steps, batches)
        _check_converging(stage, epoch, entry["loss"], optimisation.tracked.values())
        optimisation.plateau.observe(entry["loss"])
        with beginning(seed, stage.name, epoch, "validation"):
            history.append(entry | stage.validate())
        if told is not None:
            by_first(partial(told, stage, history[-1]))
        if checkpoint is not None:
            due = by_first(partial(_keep, due, checkpoint, stage.module, optimisation, mark, history))
    optimisation.finish()
    stage.module.eval()
    return history


def _keep(due: float, checkpoint: Path, *state: Any) -> float:
    """Write a checkpoint if one is due, and say when the next one is."""
    if (started := time.monotonic()) < due:
        return due
    save_checkpoint(checkpoint, *state)
    return time.monotonic() + (time.monotonic() - started) / SHARE_OF_TIME_FOR_CHECKPOINTS


def _check_converging(stage: Stage, epoch: int, loss: float, weights: Iterable[Tensor]) -> None:
    """The loss is a sum over the epoch, so that one step's NaN or infinity shows in it."""
    if math.isfinite(loss) and torch.stack([value.isfinite().all() for value in weights]).all():
        return
    found = "its weights are not finite" if math.isfinite(loss) else f"its loss is {loss}"
    schedule = stage.schedule
    raise DivergenceError(
        f"{stage.name} diverged in epoch {epoch + 1} of {schedule.epochs}: {found} at rate {schedule.rate:g}; "
        "nothing of this epoch is kept; lower `rate` in the recipe and choose another --out"
    )


def steps_of(stage: Stage, optimisation: Optimisation) -> list[Thrifty]:
    """The steps of descent on a batch, one for each of the stage's passes."""
    portions, most = stage.schedule.accumulate, min(stage.schedule.batch, stage.size) // _fewest(stage)
    made = [partial(_step, stage, optimisation, part) for part in range(stage.passes)]
    return [Thrifty(step, optimisation, portions, most) for step in made]


def _step(stage: Stage, optimisation: Optimisation, part: int, portions: int) -> Step:
    """One step on some images and their indices, in portions; returns the loss."""

    def losses(images: Images, indices: Tensor) -> Iterator[Tensor]:
        for rows in in_portions(len(images), portions):
            mine = images[rows]
            yield weighed(stage.loss(mine, indices[rows], part), len(mine))

    def step(images: Images, indices: Tensor) -> Tensor:
        return optimisation.step(losses(images, indices))

    return step


def _epoch(stage: Stage, epoch: int, optimisation: Optimisation, steps: list[Thrifty], batches: int) -> float:
    stage.module.train()
    size = min(stage.schedule.batch, stage.size)
    whole = torch.randperm(stage.size, device=stage.device)[: batches * size].split(size)
    total = torch.zeros((), device=stage.device)
    with dealing(among_all(size)) as deal:
        order = [deal.rows(indices) for indices in whole]
        batched = zip(order, stage.train.batches(order), strict=True)
        for indices, images in track(batched, f"epoch {epoch + 1}", len(order)):
            for step in steps:
                optimisation.prepare()
                total += step(images, indices)
    sum_over([total])
    return total.item() / (batches * len(steps))
