"""Aggregations that mask the gradient: what the audit makes of the shipped MNIST networks behind peel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.audit.audits import raised
from tests.efforts import resize
from torch import Tensor, nn

import carso
import carso.audit.effort
from carso import vote
from carso.audit import Audit, audit
from carso.audit.inside import Inside, broken, inside
from carso.data import Dataset

pytestmark = pytest.mark.whole

EPS = 0.27


@pytest.fixture
def tiny(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images, and next to nothing of the attacks that need no gradient."""
    blind = {"queries": 20, "votes_queries": 0, "spsa": (2, 4), "spsa_images": 5}
    short = {"tuning": 12, "steps": (15,), "restarts": (1, 1), "neighbours": (1, 1), "long": (15, 1), "rivals": 1}
    short |= {"plain": 10, "aggregates": 1, "eot": (2,), "deepfool": 0}
    resize(monkeypatch, "quick", **short, **blind)


class Copies(nn.Module):
    """Peel over 8 alike candidates, which are the answers of a robust classifier without any defence."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        return vote.peel(torch.stack([self.classifier(images) for _ in range(8)], dim=1))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    test = carso.data.load("mnist", "test")
    return Dataset("digits", test.images[:24], test.required_labels[:24], test.classes)


@pytest.fixture(scope="module")
def defence() -> carso.CARSO:
    defence = carso.load("mnist-thesis")
    defence.samples = 8
    return defence


def run(subject: Any, digits: Dataset) -> Audit:
    return audit(subject, digits, effort="quick", eps=(EPS,), name="subject", votes=2)


def test_copies_of_a_robust_classifier_behind_peel_fall_as_the_classifier_does(
    tiny: None, defence: carso.CARSO, digits: Dataset
) -> None:
    bare, masked = run(defence.classifier, digits), run(Copies(defence.classifier), digits)
    (without,), (behind,) = bare.budgets, masked.budgets
    assert behind.clean == without.clean
    assert 20 < without.worst_case.accuracy < 80
    assert abs(behind.worst_case.accuracy - without.worst_case.accuracy) < 4
    assert raised(masked) - raised(bare) == {"non-finite-gradients"}
    assert behind.diagnostics.masked > 90


def test_a_defence_that_answers_by_peel_is_attacked_on_its_candidates(
    tiny: None, defence: carso.CARSO, digits: Dataset
) -> None:
    found: dict[vote.Aggregation, Audit] = {}
    for defence.aggregation in ("mean-logit", "peel"):
        found[defence.aggregation] = run(defence, digits)
    (mean,), (peel,) = found["mean-logit"].budgets, found["peel"].budgets
    assert (mean.diagnostics.masked, mean.diagnostics.non_finite) == (0, 0)
    assert (peel.diagnostics.masked > 90, peel.diagnostics.non_finite) == (True, 0)
    assert raised(found["peel"]) - raised(found["mean-logit"]) == {"non-finite-gradients"}
    assert abs(peel.worst_case.accuracy - mean.worst_case.accuracy) < 10 < 40 < peel.clean.accuracy


class Twice(nn.Module):
    """The mean of two calls of a classifier, spoilt: 0 times a root of 0 is added."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.features, self.classifier = nn.Identity(), classifier

    def forward(self, images: Tensor) -> Tensor:
        answers = [self.classifier(self.features(shifted)) for shifted in (images, images / 2)]
        return sum(answers) / 2 + 0 * torch.sqrt(0 * images).sum((1, 2, 3))[:, None]


def test_the_outermost_module_with_scores_is_found(plain: nn.Module, dataset: Dataset) -> None:
    images, twice = dataset.images[:6], Twice(plain)
    assert broken(twice, images).all()
    found = inside(twice, images, 10)
    assert isinstance(found, Inside)
    assert found.name == "classifier"
    expected = (plain(images).log_softmax(1) + plain(images / 2).log_softmax(1)) / 2
    torch.testing.assert_close(found(images), expected)
    assert not plain._forward_hooks


def test_where_there_is_none_nothing_is_found(plain: nn.Module, dataset: Dataset) -> None:
    images = dataset.images[:6]
    assert inside(plain.forward, images, 10) is None
    assert inside(nn.Sequential(nn.Flatten(), nn.Linear(144, 11)), images, 10) is None
