"""Transfers are tried before the work, and their classes numbered as the target's."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from carso.audit import audit
from carso.audit.surface import INFINITE
from carso.audit.target import target_of
from carso.audit.transfer import Renumbered, transfers
from carso.data import Dataset
from carso.errors import CarsoError, DataError, ModelError
from carso.nn.chance import shared_states


class Turned(nn.Module):
    """The classes the other way around, by their names."""

    class_names = tuple("9876543210")

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits.flip(1)


def test_one_that_numbers_its_classes_alike_is_taken_as_it_is(
    plain: nn.Module, other: nn.Module, dataset: Dataset
) -> None:
    target = target_of(plain, dataset.images)
    assert transfers(target, dataset, dataset, {"other": other})["other"] is other


def test_one_that_numbers_them_otherwise_is_renumbered(plain: nn.Module, other: nn.Module, dataset: Dataset) -> None:
    target = target_of(plain, dataset.images)
    found = transfers(target, dataset, dataset, {"turned": Turned(other)})["turned"]
    assert torch.equal(found(dataset.images), other(dataset.images))


def test_trying_a_random_one_leaves_no_trace(plain: nn.Module, other: nn.Module, dataset: Dataset) -> None:
    class Noisy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = other(images + 0.1 * torch.randn_like(images) + 0.1 * random.random() * np.random.rand())
            return logits

    target = target_of(plain, dataset.images)
    before = torch.get_rng_state(), shared_states()
    assert "noisy" in transfers(target, dataset, dataset, {"noisy": Noisy()})
    assert torch.equal(torch.get_rng_state(), before[0])
    assert shared_states() == before[1]


def test_classes_that_it_lacks_are_the_last(plain: nn.Module, other: nn.Module, dataset: Dataset) -> None:
    """Images of the classes 0 to 3, which the other model calls 3 to 0."""

    class Four(nn.Module):
        class_names = tuple("3210")

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = other(images)
            return logits[:, [3, 2, 1, 0]]

    few = dataset.required_labels < 4
    part = Dataset("part", dataset.images[few], dataset.required_labels[few], dataset.classes)
    found = transfers(target_of(plain, part.images), part, part, {"four": Four()})["four"]
    assert torch.equal(found(part.images)[:, :4], other(part.images)[:, :4])
    assert (found(part.images)[:, 4:] == -INFINITE).all()


def test_classes_that_it_lacks_are_the_last_however_low_its_scores() -> None:
    found = Renumbered(lambda _: torch.tensor([[-3 * INFINITE, 0.0]]), [-1, 0, 1])
    assert found(torch.zeros(1, 1, 1, 1)).tolist() == [[-6 * INFINITE, -3 * INFINITE, 0.0]]


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (lambda images: images.flatten(1)[:, :5], DataError, "for transfer odd: has the label 9, the model knows"),
        (lambda images: images.flatten(1)[:, :10].detach(), ModelError, "transfer odd has no gradient"),
        (lambda images: images.flatten(1)[:2, :10] * torch.nan, ModelError, "transfer odd returned NaN"),
        (lambda images: images.view(3, 7), ModelError, "transfer odd cannot run on images"),
    ],
)
def test_what_cannot_serve_is_said_before_the_work(
    model: Any, error: type[CarsoError], message: str, plain: nn.Module, dataset: Dataset
) -> None:
    with pytest.raises(error, match=message):
        audit(plain, dataset, transfer={"odd": model})
