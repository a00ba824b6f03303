"""Classifiers as people have them, in other dtypes and writing into their input, are trained and get a purifier."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.data import Dataset
from carso.nn import MLP
from carso.purifier import Purifier
from carso.representation import Representation
from carso.training.classifier import ClassifierStage
from carso.training.loop import beginning, fit
from carso.training.purifier import PurifierStage
from carso.training.recipe import AttackSpec, ClassifierTraining, PurifierTraining

ATTACKS = (
    AttackSpec(attack="fgsm", eps=0.1),
    AttackSpec(attack="pgd", eps=0.1, steps=2, directed_at="defence"),
)


class Foreign(nn.Module):
    """A classifier that shifts its images, in place or aside."""

    def __init__(self, in_place: bool = False, answer: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.body, self.in_place, self.answer = MLP((1, 4, 4), (8,), 3), in_place, answer

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images.mul_(0.5) if self.in_place else images.mul(0.5))
        return logits.to(self.answer)


def trained(classifier: nn.Module, feed: str = "fresh") -> tuple[list[dict[str, float]], Tensor, PurifierStage]:
    images = torch.rand(48, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = Dataset("grains", images.clone(), None, ())
    attacks = ATTACKS if feed == "fresh" else ATTACKS[:1]
    schedule = PurifierTraining(epochs=2, batch=16, rate=0.01, attacks=attacks, feed=feed, consistency=1.0)
    with beginning(2, "purifier"):
        purifier = Purifier((1, 4, 4), 11, latent=2)
    stage = PurifierStage("p", Representation(classifier), purifier, schedule, data, data, 1, torch.device("cpu"))
    history = fit(stage, 0, "f")
    assert torch.equal(data.images, images)
    return history, torch.cat([p.detach().flatten() for p in purifier.parameters()]), stage


def foreign(dtype: torch.dtype = torch.float32, **options: Any) -> nn.Module:
    with beginning(1, "classifier"):
        return Foreign(**options).eval().to(dtype)


@pytest.mark.parametrize("feed", ["fresh", "cached"])
def test_a_classifier_that_writes_into_its_input_harms_nobody(feed: str) -> None:
    (first, weights, _), (second, others, _) = (trained(foreign(in_place=yes), feed) for yes in (True, False))
    assert [epoch["loss"] for epoch in first] == [epoch["loss"] for epoch in second]
    assert torch.equal(weights, others)


@pytest.mark.parametrize("feed", ["fresh", "cached"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("answering", [False, True])
def test_a_classifier_may_compute_or_answer_in_another_dtype(feed: str, dtype: torch.dtype, answering: bool) -> None:
    classifier = foreign(answer=dtype) if answering else foreign(dtype, answer=dtype)
    history, weights, stage = trained(classifier, feed)
    expected, _, _ = trained(foreign(), feed)
    assert weights.dtype == torch.float32
    assert {p.dtype for p in stage.classifier.parameters()} == ({torch.float32} if answering else {dtype})
    assert history[-1]["loss"] == pytest.approx(expected[-1]["loss"], rel=0.05)


@pytest.mark.parametrize("feed", ["fresh", "cached"])
def test_norms_in_half_precision_get_a_purifier(feed: str) -> None:
    """Beside bfloat16, which convolutions of float32 are trained around in, they would raise."""

    def normed(dtype: torch.dtype) -> nn.Module:
        with beginning(1, "classifier"):
            maps = nn.Conv2d(1, 2, 2, stride=2), nn.GroupNorm(1, 2), nn.BatchNorm2d(2), nn.ReLU()
            return nn.Sequential(*maps, nn.Flatten(), nn.Linear(8, 3)).to(dtype).eval()

    (half, _, _), (single, _, _) = (trained(normed(dtype), feed) for dtype in (torch.float16, torch.float32))
    assert half[-1]["loss"] == pytest.approx(single[-1]["loss"], rel=0.05)


@pytest.mark.parametrize("trades", [0.0, 6.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_classifier_is_trained_in_its_own_dtype(dtype: torch.dtype, trades: float) -> None:
    data = Dataset("grains", torch.rand(48, 1, 4, 4), torch.arange(48) % 3, ("a", "b", "c"))
    attacks = (AttackSpec(attack="pgd", eps=0.1, steps=2), AttackSpec(attack="n-fgsm", eps=0.1))
    schedule = ClassifierTraining(
        epochs=1, batch=16, rate=0.01, average=0.5, lookahead=2, attacks=attacks, trades=trades
    )
    stage = ClassifierStage("n", foreign(dtype, answer=dtype), schedule, data, data, torch.device("cpu"))
    assert fit(stage, 0, "f")[0]["loss"] > 0
    assert {parameter.dtype for parameter in stage.module.parameters()} == {dtype}
