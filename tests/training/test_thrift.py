"""Memory that runs out in a step costs the training nothing but time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from carso.data import Dataset
from carso.nn import MLP
from carso.training.classifier import ClassifierStage
from carso.training.loop import beginning, fit
from carso.training.recipe import AttackSpec, ClassifierTraining

pytestmark = pytest.mark.usefixtures("fresh_progress")
CPU = torch.device("cpu")
BATCH = 16


def stage(accumulate: int = 1) -> ClassifierStage:
    """With all that a step changes or draws: batch norm, dropout, moved and attacked images."""
    labels = torch.arange(48) % 3
    images = Dataset(
        "bars", torch.rand(48, 1, 4, 4, generator=torch.Generator().manual_seed(0)), labels, ("a", "b", "c")
    )
    attack = AttackSpec(attack="pgd", eps=0.1, steps=2)
    told = {"epochs": 2, "batch": BATCH, "rate": 0.05, "average": 0.9, "crop": 1, "attacks": (attack,)}
    with beginning(1, "start"):
        model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), MLP((2, 2, 2), (8,), 3, dropout=0.2))
    return ClassifierStage("n", model, ClassifierTraining(**told, accumulate=accumulate), images, images, CPU)


def hungry(made: ClassifierStage, most: int, error: Callable[[], object]) -> ClassifierStage:
    """The stage, in which memory runs out behind the loss of more images than so many."""
    loss = made.loss

    def counted(images: Tensor, indices: Tensor, part: int) -> Tensor:
        found = loss(images, indices, part)
        if len(images) > most:
            error()
        return found

    made.loss = counted  # type: ignore[method-assign]
    return made


def out_of_memory() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("error", [lambda: torch.empty(10**15), lambda: bytearray(10**16), out_of_memory])
def test_a_step_that_failed_leaves_nothing_behind(
    error: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    in_two, at_once = stage(accumulate=2), hungry(stage(), BATCH // 2, error)
    assert fit(at_once, 3, "f") == fit(in_two, 3, "f")
    expected = in_two.module.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in at_once.module.state_dict().items())
    assert capsys.readouterr().err.count("memory ran out; going on with batches in 2 portions") == 1


def test_a_second_time_it_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        fit(hungry(stage(), 0, out_of_memory), 3, "f")
    assert capsys.readouterr().err.count("memory ran out") == 1


def test_weights_that_have_begun_to_move_are_not_gone_on_from(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.optim.RAdam, "step", lambda *_: out_of_memory())
    with pytest.raises(torch.OutOfMemoryError):
        fit(stage(), 3, "f")
    assert "memory ran out" not in capsys.readouterr().err


def test_whatever_else_fails_is_not_tried_again() -> None:
    calls: list[int] = []

    def broken() -> None:
        calls.append(1)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        fit(hungry(stage(), 0, broken), 3, "f")
    assert calls == [1]
