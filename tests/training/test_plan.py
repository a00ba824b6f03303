from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

import carso.training.plan
from carso.data import Dataset
from carso.training.plan import Plan, plan
from carso.training.purifier import REPRESENTATIONS_KEPT, kept_bytes
from carso.training.recipe import AttackSpec, PurifierTraining, Schedule

STEP, VALIDATION, PREPARATION = 0.05, 0.03, 0.02


def images(count: int) -> Dataset:
    return Dataset("grains", torch.rand(count, 1, 2, 2))


@dataclass
class Sleepy:
    """A stage whose steps, validation and making take their time."""

    name: str
    module: nn.Module
    schedule: Schedule
    train: Dataset
    held_out: Dataset
    now: ClassVar[float] = 0.0
    passes: int = 2
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        Sleepy.now += PREPARATION

    @property
    def size(self) -> int:
        return len(self.train)

    def begin(self, epoch: int) -> None:
        pass

    def loss(self, images: Tensor, indices: Tensor, part: int) -> Tensor:
        Sleepy.now += STEP
        return self.module(images.flatten(1)).square().mean()

    def validate(self) -> dict[str, float]:
        Sleepy.now += VALIDATION
        return {}


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carso.training.plan, "time", SimpleNamespace(perf_counter=lambda: Sleepy.now))


def planned(epochs: int) -> tuple[Plan | None, nn.Module]:
    module, schedule = nn.Linear(4, 3), Schedule(epochs=epochs, batch=10, rate=0.1)
    return plan("naps", module, schedule, images(100), images(20), Sleepy, kept=1000), module


def test_the_time_is_that_of_all_steps() -> None:
    found, _ = planned(epochs=3)
    assert found is not None
    assert (found.weights, found.steps) == (15, 3 * 10 * 2)
    assert found.memory == 4 * (5 * 15 + 400) + 1000
    assert found.seconds == pytest.approx(10 * PREPARATION + 3 * (10 * 2 * STEP + 2 * VALIDATION))
    assert str(found).startswith("naps: 15 weights (0.0 MB), at least 0.0 MB of memory; 60 steps take about")


def test_the_trial_leaves_the_module_as_it_is() -> None:
    torch.manual_seed(0)
    before, state = nn.Linear(4, 3).weight.detach(), torch.get_rng_state()
    torch.manual_seed(0)
    _, module = planned(epochs=3)
    assert torch.equal(module.weight, before)
    torch.manual_seed(0)
    nn.Linear(4, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_sooner_done_than_measured_has_no_plan() -> None:
    began = Sleepy.now
    assert planned(epochs=2)[0] is None
    assert Sleepy.now == began


@pytest.mark.parametrize(
    ("feed", "neurons", "expected"),
    [("fresh", 5, 0), ("cached", 5, 2 * 2 * 40 + 4 * 3 * 10 * 5), ("cached", REPRESENTATIONS_KEPT, 2 * 2 * 40)],
)
def test_what_a_purifier_keeps(feed: str, neurons: int, expected: int) -> None:
    attacks = (AttackSpec(attack="fgsm", eps=0.1), AttackSpec(attack="pgd", eps=0.1))
    schedule = PurifierTraining(epochs=1, rate=0.1, feed=feed, attacks=attacks)
    assert kept_bytes(schedule, images(10), neurons) == expected
