from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carso.data import Dataset
from carso.hardening.proposal import purifier_for
from carso.training.recipe import PurifierSpec


def photographs(*shape: int) -> Dataset:
    return Dataset("photographs", torch.rand(40, *shape, generator=torch.Generator().manual_seed(0)), None)


class Sided(nn.Module):
    """Which half of an image is lighter: the upper or lower one, or the left or right one."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([half.mean((1, 2, 3)) for half in images.chunk(2, self.axis)], 1)


@pytest.mark.parametrize(("axis", "flip"), [(2, True), (3, False)])
def test_candidates_are_mirrored_where_the_classifier_does_not_mind(axis: int, flip: bool) -> None:
    found = purifier_for(Sided(axis), photographs(3, 32, 48))
    assert (found.kind, found.flip) == ("corrective", flip)


def test_candidates_are_shifted_by_a_sixteenth_where_the_classifier_does_not_mind() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.new_tensor([1.0, 0.0]).expand(len(images), -1)

    assert purifier_for(Constant(), photographs(3, 64, 48)).shift == 3


def test_candidates_are_not_shifted_where_the_answer_hangs_on_a_pixel() -> None:
    class Pixel(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([images[:, 0, 8, 8], 1 - images[:, 0, 8, 8]], 1)

    assert purifier_for(Pixel(), photographs(3, 32, 32)).shift == 0


def test_small_grey_images_keep_their_dense_purifier() -> None:
    assert purifier_for(Sided(2), photographs(1, 28, 28)) == PurifierSpec()


def test_a_module_of_the_name_hides_the_image() -> None:
    named = nn.Sequential()
    named.add_module("input", Sided(2))
    assert purifier_for(named, photographs(3, 32, 32)) == PurifierSpec()
