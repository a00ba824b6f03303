from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from carso.data import Dataset
from carso.nn import MLP
from carso.storage import weights
from carso.training import plan
from carso.training.experiment import Experiment
from carso.training.loop import Stage, batches_of
from carso.training.plan import FEW, Cost, Pending, announce, cost_of
from carso.training.purifier import REPRESENTATIONS_KEPT, kept_bytes
from carso.training.reading import parse_recipe
from carso.training.recipe import AttackSpec, PurifierTraining, Schedule

CPU = torch.device("cpu")
RECIPE = """name: x
data: few
adversarial: {epochs: 3, batch: 16, rate: 0.01, attacks: [{attack: fgsm, eps: 0.1}]}
purification: {epochs: 2, batch: 8, batches: 3, rate: 0.01, attacks: [{attack: fgsm, eps: 0.1}]}
hardening: {epochs: 1, batch: 8, rate: 0.01, feed: fresh, attacks: [{attack: pgd, eps: 0.1, steps: 2}]}
"""
COST = Cost("n", epochs=3, batches=10, batch=0.5, setup=2.0, validation=1.0, weights=7, memory=20_000_000)


@pytest.fixture
def experiment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Experiment:
    few = Dataset("few", torch.rand(48, 1, 5, 5), torch.arange(48) % 3, ("a", "b", "c"))
    monkeypatch.setattr("carso.data.load", lambda name, split, **_: few if split == "train" else few[:12])
    return Experiment(parse_recipe(RECIPE, "test"), tmp_path, CPU)


def test_a_cost_is_steps_times_their_time() -> None:
    assert COST.seconds == 2 + 3 * (10 * 0.5 + 1)
    assert str(COST) == "n: 7 weights, at least 20.0 MB of memory; 3 epochs of 10 batches, 500 ms each: 20 s"


def test_an_epoch_has_as_many_batches_as_there_are_or_as_the_recipe_says() -> None:
    schedule = Schedule(epochs=1, batch=16, rate=0.1)
    assert batches_of(50, schedule) == 3
    assert batches_of(5, schedule) == 1
    assert batches_of(50, schedule.model_copy(update={"batches": 2})) == 2
    assert batches_of(50, schedule.model_copy(update={"batches": 9})) == 3


def test_the_stages_of_a_run_that_are_pending_are_tried(experiment: Experiment) -> None:
    stages = {stage.name: stage for stage in experiment.pending()}
    assert list(stages) == ["adversarial training", "purifier", "hardening"]
    costs = {name: cost_of(stage) for name, stage in stages.items()}
    assert {name: (cost.epochs, cost.batches) for name, cost in costs.items()} == {
        "adversarial training": (3, 3),
        "purifier": (2, 3),
        "hardening": (1, 6),
    }
    assert all(cost.batch > 0 for cost in costs.values())
    assert costs["purifier"].weights == costs["hardening"].weights
    attacked, represented = 2 * 48 * 25, 4 * 2 * 48 * 283
    assert costs["purifier"].memory - costs["hardening"].memory == attacked + represented
    experiment.train_classifier()
    assert [stage.name for stage in experiment.pending()] == ["purifier", "hardening"]


def test_a_trial_leaves_no_trace_in_the_run(
    experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = replace(experiment, out=tmp_path / "other")
    monkeypatch.setattr(plan, "FEW", 0)
    announce(other.pending())
    for run in (experiment, other):
        run.carry_out()
    assert weights.digest(experiment.defence()) == weights.digest(other.defence())


def test_a_users_network_is_not_trained_by_a_trial(experiment: Experiment) -> None:
    own = MLP((1, 5, 5), (6,), 3)
    before = weights.digest(own)
    for stage in replace(experiment, classifier=own).pending():
        cost_of(stage)
    assert weights.digest(own) == before
    assert own.training


@pytest.mark.usefixtures("fresh_progress")
def test_only_what_takes_long_is_announced(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    few, long, short = Dataset("few", torch.rand(1, 1, 2, 2)), *(Schedule(epochs=e, rate=0.1) for e in (FEW + 1, FEW))
    stages = {"n": long, "m": long, "sooner done than measured": short}
    pending = [Pending(name, stage, 0, few, few, lambda *_: pytest.fail("tried")) for name, stage in stages.items()]
    for seconds in (4.0, 40.0):
        monkeypatch.setattr(
            plan, "cost_of", lambda stage, seconds=seconds: replace(COST, name=stage.name, setup=seconds, epochs=0)
        )
        announce(pending)
    assert capsys.readouterr().err.splitlines() == [
        "n: 7 weights, at least 20.0 MB of memory; 0 epochs of 10 batches, 500 ms each: 40 s",
        "m: 7 weights, at least 20.0 MB of memory; 0 epochs of 10 batches, 500 ms each: 40 s",
        "training will take about 1 min 20 s",
    ]


@pytest.mark.parametrize(
    ("feed", "neurons", "expected"),
    [("fresh", 5, 0), ("cached", 5, 2 * 2 * 40 + 4 * 3 * 10 * 5), ("cached", REPRESENTATIONS_KEPT, 2 * 2 * 40)],
)
def test_what_a_purifier_keeps(feed: str, neurons: int, expected: int) -> None:
    attacks = (AttackSpec(attack="fgsm", eps=0.1), AttackSpec(attack="pgd", eps=0.1))
    schedule = PurifierTraining(epochs=1, rate=0.1, feed=feed, attacks=attacks)
    assert kept_bytes(schedule, Dataset("grains", torch.rand(10, 1, 2, 2)), neurons) == expected


def test_what_is_made_once_is_not_multiplied_by_the_images(
    experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stage that takes 3 seconds and 0.1 for each image, by a clock that nothing else moves."""
    now = [0.0]
    monkeypatch.setattr(plan, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    pending = experiment.pending()[0]

    def build(images: int, held_out: int) -> Stage:
        now[0] += 3 + 0.1 * images
        return pending.build(images, held_out)

    found = cost_of(replace(pending, build=build))
    assert found.setup == pytest.approx(3 + 0.1 * len(pending.train))


def test_a_run_with_hardly_anything_left_is_not_tried() -> None:
    few = Dataset("few", torch.rand(1, 1, 2, 2))
    long = Schedule(epochs=FEW + 9, rate=0.1)
    announce([Pending("n", long, 9, few, few, lambda *_: pytest.fail("tried"))])
