from __future__ import annotations

import pytest
import torch
from torch import nn

from carso.recall import PIXELS
from carso.rivals.augmentation import Augmented
from carso.rivals.smoothing import Smoothed


class Recording(nn.Module):
    """The mean of each channel, and how many pixels it was shown at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen.append(images.numel())
        return images.mean((2, 3))


@pytest.mark.parametrize("shape", [(1, 3, 64, 64), (7, 3, 64, 64)])
def test_memory_is_bounded_by_pixels_not_by_versions(shape: tuple[int, ...]) -> None:
    classifier = Recording()
    votes = Smoothed(classifier, 0.1).votes(torch.rand(shape), 600)
    assert votes.sum(1).tolist() == [600] * shape[0]
    assert PIXELS / 2 < max(classifier.seen) <= PIXELS


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda n: Smoothed(n, 0.0), "sigma must be positive and finite, not 0.0"),
        (lambda n: Smoothed(n, samples=0), "samples must be at least 1, not 0"),
        (lambda n: Smoothed(n).certify(torch.rand(1, 1, 4, 4), samples=0), "samples must be at least 1, not 0"),
        (lambda n: Smoothed(n).certify(torch.rand(1, 1, 4, 4), selection=0), "samples must be at least 1, not 0"),
        (lambda n: Augmented(n, shift=-1), "shift must be at least 0 pixels, not -1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        make(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
