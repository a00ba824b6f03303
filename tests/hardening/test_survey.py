import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from carso import CARSO
from carso.data import Dataset
from carso.evaluation.examples import AdversarialExamples
from carso.evaluation.models import Outcome, answer
from carso.evaluation.protocol import DEEPFOOL, Row
from carso.hardening import survey
from carso.hardening.plan import Rates
from carso.hardening.survey import TRIED, peak_memory, rates_of, recalling, seen
from carso.nn import MLP
from carso.purifier import Purifier
from carso.training.recipe import PurifierSpec
from carso.types import Norm


class Clock:
    """Seconds that pass where a test lets them."""

    seconds = 0.0

    def timed(self, work: Callable[[], Any]) -> tuple[Any, float]:
        began, result = self.seconds, work()
        return result, self.seconds - began


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Charges 1 for a step on N, 3 for one on the defence, 7 for a vote, and 10 for the beginning of any attack."""
    clock = Clock()

    class Charged(AdversarialExamples):
        def __call__(self, row: Row, *given: Any) -> Tensor:
            clock.seconds += 10 + row.options["steps"] * (3 if row.directed_at == "defence" else 1)
            return super().__call__(row, *given)

    def voted(*given: Any) -> Outcome:
        clock.seconds += 7
        return answer(*given)

    monkeypatch.setattr(survey, "timed", clock.timed)
    monkeypatch.setattr(survey, "AdversarialExamples", Charged)
    monkeypatch.setattr(survey, "answer", voted)
    return clock


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_what_is_planned_with_is_measured_per_image_and_per_step(norm: Norm) -> None:
    classifier = MLP((1, 4, 4), (8,), 3).eval()
    defence = CARSO(classifier, Purifier((1, 4, 4), 11, 2).eval(), samples=5)
    dataset = Dataset("d", torch.rand(20, 1, 4, 4), torch.arange(20) % 3, ("a", "b", "c"))
    rates = rates_of(defence, dataset, 0.1, norm)
    deepfool = (10 + DEEPFOOL["steps"]) / TRIED
    assert rates == Rates(classifier=1 / TRIED, defence=3 / TRIED, vote=7 / TRIED, deepfool=deepfool)


def test_the_memory_that_was_held_is_some() -> None:
    peak = peak_memory()
    assert (peak is None) == sys.platform.startswith("win")
    assert peak is None or 2**24 < peak < 2**42


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        ((), "these parts were made here, by names: pictures that the classifier was trained on"),
        (("train", "test"), "held-out images are of train: pictures that the classifier was trained on"),
        (("train", "val", "test"), None),
    ],
)
def test_images_that_the_classifier_may_have_seen_are_told(
    tmp_path: Path, folders: tuple[str, ...], said: str | None
) -> None:
    for folder in folders or (".",):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / folder / "a.png")
    found = list(seen(str(tmp_path)))
    assert len(found) == (said is not None)
    assert said is None or said in found[0]
    assert said is None or found[0].endswith("too small")


def test_of_a_set_by_name_train_is_what_is_held_out_of() -> None:
    assert "held-out images are of train" in next(seen("mnist"))


def test_how_candidates_differ_by_design_is_said() -> None:
    assert recalling(PurifierSpec()) == ""
    ink = PurifierSpec(kind="corrective", contrast=0.3, shift=3)
    assert recalling(ink) == ", with contrast against changes of up to 0.3, seen from 3 pixels away"
    assert recalling(PurifierSpec(kind="corrective", flip=True)) == ", seen in a mirror"
