"""Detection against its closed forms, and its promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from carso import CARSO
from carso.detection import MOST, Calibration, Confidence, agreement
from carso.errors import CarsoError, ModelError
from carso.nn import MLP
from carso.purifier import Purifier


def test_agreement_is_the_sum_of_the_witnesses_log_probabilities() -> None:
    p, q = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]), torch.tensor([[0.2, 0.2, 0.6], [0.3, 0.3, 0.4]])
    found = agreement(p.log() + 7, q.log(), torch.tensor([2, 1]))
    torch.testing.assert_close(found, torch.tensor([0.25 * 0.6, 0.8 * 0.3]).log())


@pytest.mark.parametrize(("alpha", "rank"), [(0.01, 1), (0.02, 2), (0.05, 5), (0.2, 20)])
def test_the_threshold_is_the_agreement_of_its_rank(alpha: float, rank: int) -> None:
    values = -torch.arange(1.0, 100.0)
    found = Calibration.of(values[torch.randperm(99, generator=torch.Generator().manual_seed(0))])
    assert found.n == 99
    assert found.threshold(alpha) == values.sort().values[rank - 1].item()


@given(st.integers(4, 300), st.floats(0.001, MOST), st.integers(0, 10**6))
def test_at_most_so_many_of_the_calibrated_images_lie_below(n: int, alpha: float, seed: int) -> None:
    values = -torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    found = Calibration.of(values)
    assume(abs(alpha * (n + 1) - 1) > 1e-6)
    if alpha * (n + 1) < 1:
        with pytest.raises(CarsoError, match="call calibrate"):
            found.threshold(alpha)
    else:
        assert (values < found.threshold(alpha)).sum() + 1 <= alpha * (n + 1) + 1e-6


def test_a_new_clean_image_is_turned_away_as_rarely_as_promised() -> None:
    """At 5 % of 99 images and a new one, its rank among the 100 must be below 5, as it is in 4 or 5 % of the draws."""
    values = -torch.rand(3000, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    away = [row[99].item() < Calibration.of(row[:99]).threshold(0.05) for row in values]
    assert 0.035 < sum(away) / len(away) < 0.0625


@pytest.mark.parametrize(
    ("alpha", "message"), [(0.0, "above 0 and at most 0.2, not 0"), (0.3, "at most 0.2, not 0.3"), (0.001, "needs 999")]
)
def test_a_rate_that_cannot_be_promised_is_refused(alpha: float, message: str) -> None:
    with pytest.raises(CarsoError, match=message):
        Calibration.of(-torch.rand(99)).threshold(alpha)


def test_too_few_images_and_nan_are_refused() -> None:
    with pytest.raises(CarsoError, match="3 images are too few to set a threshold by; give at least 4"):
        Calibration.of(-torch.rand(3))
    with pytest.raises(CarsoError, match="NaN"):
        Calibration.of(torch.full((9,), torch.nan))


@pytest.fixture
def defence() -> CARSO:
    torch.manual_seed(0)
    classifier = MLP((1, 4, 4), (8,), 3).eval()
    return CARSO(classifier, Purifier((1, 4, 4), 11, 2).eval(), samples=21)


def test_a_defence_detects_with_the_rate_it_was_calibrated_for(defence: CARSO) -> None:
    clean = torch.rand(200, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ModelError, match="call calibrate"):
        defence.detect(clean)
    calibration = defence.calibrate(clean, torch.Generator().manual_seed(0))
    found = defence.detect(clean, 0.1, generator=torch.Generator().manual_seed(0))
    assert found.threshold == calibration.threshold(0.1)
    assert (~found.accepted).sum() == 19
    assert torch.equal(found.accepted, found.agreement >= found.threshold)
    assert torch.equal(found.classes, defence.predict(clean, torch.Generator().manual_seed(0)))


def test_thresholds_do_not_outlive_the_networks_that_they_were_set_for(defence: CARSO) -> None:
    defence.calibrate(torch.rand(20, 1, 4, 4))
    assert defence.fixed(3).calibration == defence.calibration
    defence.classifier = MLP((1, 4, 4), (8,), 3).eval()
    with pytest.raises(ModelError, match="call calibrate"):
        defence.detect(torch.rand(2, 1, 4, 4))


@pytest.mark.whole
def test_classes_that_are_known_are_not_voted_on_again(defence: CARSO, monkeypatch: pytest.MonkeyPatch) -> None:
    clean = torch.rand(20, 1, 4, 4)
    defence.calibrate(clean)
    monkeypatch.setattr(CARSO, "poll", lambda *_, **__: pytest.fail("voted"))
    classes = torch.arange(20) % 3
    for known in (classes, classes.byte(), classes.int()):
        assert torch.equal(defence.detect(clean, 0.1, known).classes, classes)
    for wrong in (classes + 1, classes[:3], classes.float(), classes.bool()):
        with pytest.raises(ValueError, match="classes must be one of 0 to 2 for each of the 20 images"):
            defence.detect(clean, 0.1, wrong)


def test_agreement_does_not_depend_on_how_many_images_come_together(
    defence: CARSO, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, classes = torch.rand(20, 1, 4, 4), torch.zeros(20, dtype=torch.long)
    whole = defence.agreement(images, classes, torch.Generator().manual_seed(0))
    monkeypatch.setattr("carso.recall.PIXELS", 16 * 64 * 3)
    parts = defence.agreement(images, classes, torch.Generator().manual_seed(0))
    torch.testing.assert_close(parts, whole)
    assert len(defence.agreement(images[:0], classes[:0])) == 0


def test_a_plain_classifier_turns_away_what_it_is_not_sure_of() -> None:
    """Its agreement is the largest log-probability."""
    classifier, images = MLP((1, 4, 4), (8,), 3).eval(), torch.rand(40, 1, 4, 4)
    sure = Confidence(classifier)
    with pytest.raises(CarsoError, match="call calibrate"):
        sure.detect(images)
    sure.calibrate(images)
    found, best = sure.detect(images, 0.1), classifier(images).softmax(1).max(1)
    torch.testing.assert_close(found.agreement.exp(), best.values)
    assert torch.equal(found.classes, best.indices)
    assert (~found.accepted).sum() == 3


def test_a_plain_classifier_is_calibrated_in_eval_mode_and_keeps_its_own() -> None:
    classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3))
    sure, images = Confidence(classifier).train(), torch.rand(40, 1, 4, 4)
    found = sure.calibrate(images)
    assert all(module.training for module in sure.modules())
    assert found == Confidence(classifier.eval()).calibrate(images)
