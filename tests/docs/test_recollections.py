"""The pictures of what is recalled say how their images were chosen, and who is right, in words."""

from __future__ import annotations

import pytest
import torch
from benchmarks.docs import recall

LABELS = torch.tensor([3, 8, 9, 4])


@pytest.fixture
def found() -> recall.Outcome:
    images = torch.zeros(4, 1, 28, 28)
    shares = torch.zeros(4, 10)
    shares[:, 8] = 0.914
    elected = torch.tensor([8, 8, 8, 4])
    return recall.Outcome(images, images, LABELS, torch.tensor([8, 2, 9, 4]), elected, shares, clean=4)


def test_a_row_tells_the_true_class_and_who_is_right(found: recall.Outcome) -> None:
    names = tuple(map(str, range(10)))
    words = [[line for line, _ in recall.said(found, row, names)] for row in (0, 1)]
    assert words == [
        ["true: 3", "N alone: 8, wrong", "CARSO: 8, wrong (91 %)"],
        ["true: 8", "N alone: 2, wrong", "CARSO: 8, right (91 %)"],
    ]


def test_the_footer_tells_of_how_many_images_the_rows_were_chosen(found: recall.Outcome) -> None:
    chosen, all_ = recall.footer(found, recall.radius(8 / 255))
    assert found.wrong == [0, 1]
    assert "first 2 of 2 such images among the first 4 of the test set" in chosen
    assert "Linf 8/255" in chosen
    assert "N 4 without attack; under it N 2, CARSO 2." in all_


def test_nothing_is_cut_off(found: recall.Outcome) -> None:
    """The longest name, and the footer, end before the margin."""
    names = ("automobile",) * 10
    below = recall.footer(found, recall.radius(8 / 255))
    picture = recall.sheet(found, [0, 1], torch.zeros(2, recall.SHOWN, 1, 28, 28), names, below)
    margin = picture.crop((picture.width - 6, 0, picture.width, picture.height))
    assert margin.getextrema() == ((255, 255),) * 3
