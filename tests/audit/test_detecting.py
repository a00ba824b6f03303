"""Audits of targets that turn images away: who fools them must also be believed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso import CARSO
from carso.attacks import annealed, square
from carso.attacks.eot import Expectation
from carso.attacks.objective import is_random
from carso.audit import Audit, audit
from carso.audit.detecting import detecting
from carso.audit.target import target_of
from carso.audit.verdict import AWAY, classes_of
from carso.data import Dataset
from carso.detection import Calibration, Confidence
from carso.errors import CarsoError
from carso.nn import MLP
from carso.purifier import Purifier
from carso.types import Budget

pytestmark = pytest.mark.usefixtures("small")


class Brightness(nn.Module):
    """Logits (0, 20 (x - 1/2)) of the mean pixel x: 1 / (1 + e^-20d) is the confidence at a distance d of 1/2."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([torch.zeros_like(mean), 20 * (mean - 0.5)], dim=1)


@pytest.fixture
def greys() -> Dataset:
    """Thirty images of mean 0.4 and thirty of mean 0.6."""
    means = torch.tensor([0.4, 0.6]).repeat(30)
    return Dataset(
        "greys", means.view(60, 1, 1, 1).expand(60, 1, 4, 4).clone(), (means > 0.5).long(), ("dark", "light")
    )


@pytest.fixture
def sure(greys: Dataset) -> Confidence:
    """Believes what is at least 0.1 away from 1/2, as all clean images are."""
    found = Confidence(Brightness())
    found.calibrate(greys.images)
    return found


def run(subject: Any, dataset: Dataset, eps: float, **options: Any) -> Audit:
    return audit(subject, dataset, effort="quick", eps=(eps,), n=20, **options)


def test_an_attacker_who_fools_but_is_not_believed_breaks_nothing(greys: Dataset, sure: Confidence) -> None:
    """Within 0.15 the class can be turned, but only to a place 0.05 beyond the border; within 0.25, to 0.15 beyond."""
    assert run(sure.classifier, greys, 0.15).budgets[0].worst_case.accuracy == 0
    (near,) = run(sure, greys, 0.15, reject_at=0.05).budgets
    assert near.worst_case.accuracy == 100
    (far,) = run(sure, greys, 0.25, reject_at=0.05).budgets
    assert far.worst_case.accuracy == 0
    assert far.turned_away is not None
    clean, attacked = far.turned_away.clean, far.turned_away.attacked
    assert (clean.turned_away.correct, attacked.turned_away.correct) == (0, 0)
    assert clean.right is not None
    assert clean.right.accuracy == 100
    assert attacked.right is not None
    assert attacked.right.accuracy == 0


def test_what_is_turned_away_is_never_wrong(greys: Dataset, sure: Confidence) -> None:
    result = run(sure, greys, 0.15, reject_at=0.05)
    assert result.target == "Brightness, turning away 5 % of clean images"
    border = torch.full((1, 1, 4, 4), 0.52)
    target = detecting(target_of(sure.classifier, greys.images), sure, 0.05)
    assert classes_of(target, border).tolist() == [AWAY]
    assert classes_of(target, greys.images[:2]).tolist() == [0, 1]


def test_both_witnesses_of_a_defence_are_attacked() -> None:
    """The scores are the agreement for each class, up to a number per image."""
    torch.manual_seed(0)
    classifier, images = MLP((1, 4, 4), (8,), 3).eval(), torch.rand(6, 1, 4, 4)
    defence = CARSO(classifier, Purifier((1, 4, 4), 11, 2).eval(), samples=21)
    defence.calibration = Calibration(99, (-0.5,) * 20)
    target = detecting(target_of(defence, images), defence, 0.05)
    assert target.exact is not None
    found = target.exact(3, 5)(images)
    z = defence.latents(5, torch.Generator().manual_seed(3))
    agreement = classifier(images).log_softmax(1) + defence.surrogate(images, latents=z)
    torch.testing.assert_close(found - found[:, :1], agreement - agreement[:, :1])
    assert target.candidates is not None
    assert target.candidates(images, 7).shape == (6, 7, 3)
    detected = defence.detect(images, 0.05)
    assert torch.equal(classes_of(target, images) == AWAY, ~detected.accepted)


def test_who_turns_nothing_away_is_refused(plain: nn.Module, dataset: Dataset) -> None:
    with pytest.raises(CarsoError, match=r"a MLP turns nothing away; wrap it in carso\.detection\.Confidence"):
        run(plain, dataset, 0.1, reject_at=0.01)


def test_attacks_go_on_where_the_scores_are_fooled_until_the_wrong_class_is_believed(
    greys: Dataset, sure: Confidence
) -> None:
    """Within 0.25 many small steps meet the border long before they meet what is believed."""
    images, labels = greys[:20].images, greys.required_labels[:20]
    target = detecting(target_of(sure.classifier, images), sure, 0.05)
    assert target.candidates is not None
    for scores in (target.scores, Expectation(target.candidates)):
        assert is_random(scores, images)
        found = annealed(scores, images, labels, Budget("Linf", 0.25), steps=40, start=images)
        assert torch.equal(classes_of(target, found), 1 - labels)
    generator = torch.Generator().manual_seed(0)
    found = square(target.scores, images, labels, Budget("Linf", 0.25), queries=400, generator=generator)
    assert torch.equal(classes_of(target, found), 1 - labels)


class Halves(nn.Module):
    """Logits (0, s + d, s - d) of the mean pixels a and b of the halves, s = 20 (a + b) - 12, d = 8 (a - b).

    Whoever pushes class 0 down ends at a = b = 1, where the others are alike: neither is believed.
    """

    def forward(self, images: Tensor) -> Tensor:
        a, b = images.flatten(1).unflatten(1, (2, -1)).mean(2).unbind(1)
        s, d = 20 * (a + b) - 12, 8 * (a - b)
        return torch.stack([torch.zeros_like(s), s + d, s - d], dim=1)


def test_free_to_draw_any_image_the_checks_attacks_also_go_for_a_class_that_is_believed() -> None:
    dark = 0.1 * torch.rand(60, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    subject, images = Confidence(Halves()), Dataset("halves", dark, torch.zeros(60).long(), ("dark", "one", "two"))
    subject.calibrate(dark)
    found = run(subject, images, 1.0, reject_at=0.05)
    assert found.budgets[0].diagnostics.unbounded == 0
    assert found.budgets[0].diagnostics.by_eps["1"] == 0
    assert "survives-unbounded-attack" not in {check.name for check in found.raised}
