from __future__ import annotations

import pytest
import torch
from tests.rivals.conftest import SHAPE, accuracy, bars
from torch import Tensor, nn

from carso.rivals import Augmented


class Corner(nn.Module):
    """Class 1 where the upper left pixel is bright."""

    def forward(self, images: Tensor) -> Tensor:
        lit = images[:, 0, 0, 0] - 0.5
        return torch.stack([-lit, lit], 1)


def test_without_shifts_it_is_the_classifier(classifier: nn.Module) -> None:
    images, _ = bars(32, 0)
    rival = Augmented(classifier, samples=3, shift=0)
    assert torch.equal(rival.surrogate(images), classifier(images))
    assert torch.equal(rival(images).argmax(1), classifier(images).argmax(1))
    assert set(rival(images).unique().tolist()) == {0.0, 1.0}


def test_shares_are_those_of_the_shifts() -> None:
    """A single bright pixel at (1, 1) reaches the corner by one of nine shifts."""
    image = torch.zeros(1, *SHAPE)
    image[0, 0, 1, 1] = 1
    share = float(Augmented(Corner(), samples=1800, shift=1)(image, torch.Generator().manual_seed(0))[0, 1])
    assert share == pytest.approx(1 / 9, abs=5 * (8 / 81 / 1800) ** 0.5)


def test_half_of_the_versions_are_mirrored() -> None:
    image = torch.zeros(1, *SHAPE)
    image[0, 0, 0, -1] = 1
    share = float(Augmented(Corner(), samples=1000, shift=0, flip=True)(image, torch.Generator().manual_seed(0))[0, 1])
    assert share == pytest.approx(1 / 2, abs=5 * 0.5 / 1000**0.5)


def test_a_seed_gives_one_answer_whatever_the_batch(classifier: nn.Module) -> None:
    images, _ = bars(10, 0)
    rival = Augmented(classifier, samples=7, shift=3)
    together = rival(images, torch.Generator().manual_seed(1))
    alone = torch.cat([rival(x, torch.Generator().manual_seed(1)) for x in images.split(1)])
    assert torch.equal(together, alone)
    assert torch.allclose(together.sum(1), torch.ones(10))


def test_gradients_pass_through_the_surrogate_alone(classifier: nn.Module) -> None:
    images = bars(4, 0)[0].requires_grad_()
    rival = Augmented(classifier, shift=1)
    assert not rival(images).requires_grad
    assert torch.autograd.grad(rival.surrogate(images).sum(), images)[0].abs().sum() > 0
    assert accuracy(Augmented(classifier, shift=0)) > 0.95


def test_it_needs_a_vote() -> None:
    with pytest.raises(ValueError, match="samples"):
        Augmented(Corner(), samples=0)
