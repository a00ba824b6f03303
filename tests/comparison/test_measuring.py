from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.comparison.conftest import CLASSES, network, picture
from torch import Tensor, nn

from carso import attacks
from carso.comparison import measuring
from carso.comparison.measuring import RADII, ROWS, classifier_of, measured, rows_of
from carso.data import Dataset
from carso.evaluation.examples import SharedExamples
from carso.evaluation.seeding import generator_of
from carso.rivals import Smoothed
from carso.types import Budget

LABELS = torch.arange(30) % CLASSES
TEST = Dataset("pictures", picture(LABELS, 9).unsqueeze(1) / 255, LABELS, tuple("abc"))


class Shifted(nn.Module):
    """N behind a purifier that takes away what an attacker of N cannot add."""

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(images.round())
        return logits


def test_the_rows_are_the_thesis_s_attacks_on_n_alone() -> None:
    n = network()
    found = measured(Shifted(n), TEST, SharedExamples(0), 0, 1.5)
    assert [(row.attack, row.eps) for row in found.protocol] == [(row.attack, row.eps) for row in ROWS]
    fgsm = next(row for row in found.protocol if (row.attack, row.eps) == ("fgsm", 0.3))
    attacked = attacks.fgsm(n, TEST.images, LABELS, Budget("Linf", 0.3))
    assert fgsm.result.correct == int((n(attacked.round()).argmax(1) == LABELS).sum())
    assert found.trained == 1.5
    assert found.weights == sum(p.numel() for p in n.parameters())


def test_a_classifier_is_attacked_itself() -> None:
    n = network()
    assert classifier_of(n) is n
    alone, behind = (measured(each, TEST, SharedExamples(0), 0, None).protocol for each in (n, Shifted(n)))
    assert alone[0].result.accuracy == 100.0
    attacked = attacks.fgsm(n, TEST.images, LABELS, Budget("Linf", 0.5))
    assert alone[3].result.correct == int((n(attacked).argmax(1) == LABELS).sum())
    assert alone != behind


def rounds_of(*seconds: float) -> Callable[[Callable[[], object]], tuple[object, float]]:
    """A clock by which works take these times, one after the other."""
    clock = iter(seconds)
    return lambda work: (work(), next(clock))


def test_a_network_costs_one_of_itself_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "ROUNDS", 3)
    monkeypatch.setattr(measuring, "timed", rounds_of(9.0, 6.0, 3.0, 1.0, 1.0, 1.0))
    found = measured(network(), TEST, SharedExamples(0), 0, None, ROWS[:1])
    assert (found.seconds, found.of_n) == (6.0 / len(TEST), 1.0)


def test_a_cost_is_the_median_of_the_ratios_of_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 4, 2 and 8, though the medians of the times are 30 and 5."""
    monkeypatch.setattr(measuring, "ROUNDS", 3)
    monkeypatch.setattr(measuring, "timed", rounds_of(4.0, 1.0, 30.0, 15.0, 40.0, 5.0))
    found = measured(Shifted(network()), TEST, SharedExamples(0), 0, None, ROWS[:1])
    assert (found.seconds, found.of_n) == (30.0 / len(TEST), 4.0)


def test_what_certifies_is_asked_for_right_answers_with_a_radius(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "VOTES", 200)
    rival, few = Smoothed(network(), sigma=0.2, samples=5), TEST[:12]
    found = measured(rival, few, SharedExamples(0), 0, None, ROWS[:1]).certified
    assert found is not None
    certificate = rival.certify(few.images, samples=200, generator=generator_of(0, "certificates"))
    right = certificate.classes == few.required_labels
    assert [row.eps for row in found.rows] == [0.25, 0.5, 0.75]
    assert [row.result.correct for row in found.rows] == [int((right & (certificate.radii >= r)).sum()) for r in RADII]
    assert found.rows[0].result.correct > found.rows[-1].result.correct
    assert (found.samples, found.alpha, found.rows[0].result.total) == (200, 0.001, 12)


def test_what_does_not_certify_has_no_certificate() -> None:
    assert measured(network(), TEST[:3], SharedExamples(0), 0, None, ROWS[:1]).certified is None


def test_other_images_are_attacked_at_the_radii_of_their_study() -> None:
    assert rows_of("mnist", (0.15, 0.3)) == ROWS
    rows = rows_of("fashion-mnist", (0.05, 0.1))
    kinds = ("fgsm", "pgd", "deepfool")
    assert [(row.attack, row.eps) for row in rows] == [
        ("none", 0.0),
        *((kind, e) for kind in kinds for e in (0.05, 0.1)),
    ]
    assert {row.directed_at for row in rows} == {"classifier"}


def test_within_radii_below_the_thesis_s_its_attacks_are_made_at_these() -> None:
    assert rows_of("mnist", (0.05, 0.15)) == ROWS
    assert [row.eps for row in rows_of("mnist", (0.05, 0.1)) if row.attack == "pgd"] == [0.05, 0.1]
