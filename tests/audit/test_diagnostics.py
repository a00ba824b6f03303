"""What decides whether an audit is believed, on models whose gradients and logits are known."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from carso.audit.diagnostics import CONTRADICTED, STEP, UNKEPT, mistaken, overflowing, squeezed, vanished

SLOPES = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 3.0, 0.25]])
IMAGES = torch.tensor([[0.5, 0.2, 0.7], [0.0, 1.0, 0.5]]).view(2, 1, 1, 3)
LABELS = torch.tensor([0, 1])


def linear(images: Tensor) -> Tensor:
    """Logits of two classes, whose margin is linear in the image."""
    return images.flatten(1) @ SLOPES.T


def scaled(by: float) -> Callable[[Tensor], Tensor]:
    """A model that says that the margin rises so many times as fast."""
    return lambda images: by * linear(images)


@pytest.mark.parametrize("step", [STEP, 0.1, 0.3])
@pytest.mark.parametrize("tolerance", [CONTRADICTED, UNKEPT])
@pytest.mark.parametrize(("by", "wrong"), [(1.0, False), (-1.0, True)])
def test_a_linear_margin_changes_as_its_gradient_says_and_not_as_the_opposite_does(
    by: float, wrong: bool, tolerance: float, step: float
) -> None:
    assert mistaken(scaled(by), linear, IMAGES, LABELS, step, tolerance).tolist() == [wrong, wrong]


@pytest.mark.parametrize(
    ("by", "tolerance", "wrong"),
    [
        (1.6, CONTRADICTED, False),
        (1.7, CONTRADICTED, True),
        (4.0, CONTRADICTED, True),
        (3.9, UNKEPT, False),
        (4.1, UNKEPT, True),
        (1 / 3.9, UNKEPT, False),
        (1 / 4.1, UNKEPT, True),
    ],
)
def test_a_gradient_may_be_off_by_as_much_as_is_tolerated(by: float, tolerance: float, wrong: bool) -> None:
    """|by - 1| > tolerance (by + 1): from 5/3 times as fast at the image, from 4 times or a fourth on a way."""
    assert mistaken(scaled(by), linear, IMAGES, LABELS, 0.1, tolerance).tolist() == [wrong, wrong]


def test_an_image_without_gradient_is_not_mistaken() -> None:
    assert not mistaken(scaled(0.0), linear, IMAGES, LABELS, STEP, CONTRADICTED).any()


def test_a_gradient_has_vanished_where_no_component_is_left() -> None:
    gradients = torch.zeros(3, 1, 2, 2)
    gradients[1, 0, 1, 1], gradients[2, 0, 1, 1] = -1e-21, -1e-19
    assert vanished(gradients).tolist() == [True, True, False]


def test_logits_overflow_where_the_best_leaves_no_probability_to_the_next() -> None:
    assert overflowing(torch.tensor([[89.0, 0, 0], [0, 87, 0], [0, 100, 50]])).tolist() == [True, False, False]


def test_logits_clipped_from_below_are_squeezed() -> None:
    logits = torch.arange(-4.0, 6.0).repeat(2, 1)
    logits[1] = logits[1].flip(0)
    assert squeezed(logits.clamp(min=1)).tolist() == [True, True]
    assert squeezed(logits).tolist() == [False, False]
    assert squeezed(torch.tensor([[0.0, 0, 1, 2], [0, 0.2, 1, 2]])).tolist() == [True, False]


def test_of_fewer_than_four_classes_nobody_can_tell() -> None:
    assert squeezed(torch.tensor([[0.0, 0, 1]])).tolist() == [False]
