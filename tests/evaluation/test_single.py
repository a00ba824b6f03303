from __future__ import annotations

from typing import Any

import pytest
import torch

from carso import CARSO
from carso.data.dataset import Dataset
from carso.evaluation.examples import AdversarialExamples
from carso.evaluation.models import Models
from carso.evaluation.protocol import Row
from carso.evaluation.single import attacked_images, rates
from carso.types import Budget
from carso.vote import Tally


def test_images_are_attacked_and_answered_few_at_a_time_to_the_same_end(
    columns: Models, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    defence, polled, attacked = columns["carso"], list[Tally](), list[int]()
    assert isinstance(defence, CARSO)
    poll, attack = CARSO.poll, AdversarialExamples.__call__

    def heard(self: CARSO, images: torch.Tensor, **options: Any) -> Tally:
        polled.append(poll(self, images, **options))
        return polled[-1]

    def seen(self: AdversarialExamples, row: Any, model: Any, images: torch.Tensor, *rest: Any) -> torch.Tensor:
        attacked.append(len(images))
        return attack(self, row, model, images, *rest)

    monkeypatch.setattr(CARSO, "poll", heard)
    monkeypatch.setattr(AdversarialExamples, "__call__", seen)
    found = rates(defence, dataset.images, dataset.required_labels, seed=3)
    whole = polled.pop()
    monkeypatch.setattr("carso.data.dataset.VALUES", 20 * 6 * 6)
    assert rates(defence, dataset.images, dataset.required_labels, seed=3) == found
    assert [len(tally.counts) for tally in polled] == [20, 20, 10]
    assert torch.equal(torch.cat([tally.counts for tally in polled]), whole.counts)
    assert torch.equal(torch.cat([tally.samples for tally in polled]), whole.samples)
    images = attacked_images(defence, dataset, Row("fgsm", Budget("Linf", 0.1)), seed=3)
    assert images.shape == dataset.images.shape
    assert attacked == [20, 20, 10]
