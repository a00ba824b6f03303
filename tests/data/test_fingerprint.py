from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset as Items

from carso.data import Dataset, from_torch
from carso.data.fingerprint import LOOKED_AT, fingerprint

IMAGES = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(6) % 3
SET = Dataset("d", IMAGES, LABELS, ("a", "b", "c"))


class Drawn(Items[tuple[Tensor, int]]):
    """Images moved by chance, of which it is noted which were read."""

    def __init__(self, moved: float, count: int = 6) -> None:
        self.moved, self.targets, self.read = moved, [at % 3 for at in range(count)], set[int]()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        self.read.add(index)
        return (IMAGES[index % 6] + self.moved * torch.rand(())).clamp(0, 1), self.targets[index]


def test_the_same_set_is_told_alike_wherever_it_lies() -> None:
    lazy = from_torch(Drawn(0), "other", SET.classes)
    assert fingerprint(SET) == fingerprint(replace(SET, name="other")) == fingerprint(lazy)
    assert fingerprint(SET) == fingerprint(SET[torch.arange(6)])


@pytest.mark.parametrize(
    "other",
    [
        SET[:5],
        SET[torch.tensor([1, 0, 2, 3, 4, 5])],
        replace(SET, labels=2 - LABELS),
        replace(SET, labels=None, classes=()),
        replace(SET, classes=("a", "b", "d")),
        replace(SET, pixels=IMAGES.flip(0)),
        replace(SET, pixels=IMAGES.view(6, 3, 5, 4)),
        replace(SET, pixels=IMAGES.where(torch.arange(6).view(-1, 1, 1, 1) != 5, 0.5)),
    ],
    ids=["fewer", "order", "labels", "no labels", "names", "pixels", "shape", "last image"],
)
def test_another_set_is_told_apart(other: Dataset) -> None:
    assert fingerprint(other) != fingerprint(SET)


@pytest.mark.parametrize("workers", [0, 1])
def test_items_drawn_at_random_are_told_by_what_stays(workers: int) -> None:
    drawn = from_torch(Drawn(0.1), "mine", SET.classes, workers=workers)
    told = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        told.append(fingerprint(drawn))
        assert torch.initial_seed() == seed
    assert told[0] == told[1] != fingerprint(drawn[:5])


def test_of_many_images_some_are_read_from_the_first_to_the_last() -> None:
    items = Drawn(0, 100_000)
    fingerprint(from_torch(items, "mine", SET.classes))
    assert len(items.read) == LOOKED_AT
    assert {0, 99_999} <= items.read
