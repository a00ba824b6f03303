from __future__ import annotations

from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from carso.data import Dataset
from carso.hardening.proposal import batch_of, proposed, purifier_for, reading
from carso.training.recipe import PurifierSpec
from carso.types import Budget

BUDGET = Budget("Linf", 0.1)


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
    found = purifier_for(Sided(axis), photographs(3, 32, 48), [BUDGET])
    assert (found.kind, found.flip) == ("corrective", flip)


def test_candidates_are_shifted_by_a_sixteenth_where_the_classifier_does_not_mind() -> None:
    class Constant(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.new_tensor([1.0, 0.0]).expand(len(images), -1)

    assert purifier_for(Constant(), photographs(3, 64, 48), [BUDGET]).shift == 3


def test_candidates_are_not_shifted_where_the_answer_hangs_on_a_pixel() -> None:
    class Pixel(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([images[:, 0, 8, 8], 1 - images[:, 0, 8, 8]], 1)

    assert purifier_for(Pixel(), photographs(3, 32, 32), [BUDGET]).shift == 0


@pytest.mark.parametrize(
    ("shape", "batch"),
    [((1, 28, 28), 128), ((3, 32, 32), 128), ((3, 64, 64), 128), ((3, 96, 96), 75), ((3, 224, 224), 16)],
)
def test_a_batch_has_fewer_images_where_they_are_large(shape: tuple[int, int, int], batch: int) -> None:
    assert batch_of(shape) == batch
    made = proposed("x", "a:b", "d", (0.1,), "Linf", 0, PurifierSpec(), batch=batch)
    assert made.purification is not None
    assert made.purification.batch == batch


def test_small_grey_images_keep_their_dense_purifier() -> None:
    assert purifier_for(Sided(2), photographs(1, 28, 28), [BUDGET]) == PurifierSpec()


def test_a_module_of_the_name_hides_the_image() -> None:
    named = nn.Sequential()
    named.add_module("input", Sided(2))
    assert purifier_for(named, photographs(3, 32, 32), [BUDGET]) == PurifierSpec()


class Bright(nn.Module):
    """Whether an image is more white than black."""

    def forward(self, images: Tensor) -> Tensor:
        light = images.mean((1, 2, 3))
        return torch.stack([light, 1 - light], 1)


def drawings(*shape: int) -> Dataset:
    """Ink on paper, with a grey pixel in nine."""
    drawn = photographs(*shape).images
    return Dataset("drawings", torch.where(drawn < 1 / 9, 0.5, (drawn > 0.6).float()), None)


@pytest.mark.parametrize("shape", [(1, 28, 28), (1, 48, 64)])
def test_ink_on_paper_gets_the_contrast_that_the_largest_radius_asks_for(shape: tuple[int, int, int]) -> None:
    found = purifier_for(Bright(), drawings(*shape), [Budget("Linf", 0.1), Budget("Linf", 0.2)])
    assert (found.kind, found.contrast) == ("corrective", 0.2)
    assert found.shift == (shape[1] // 16 if shape[1] > 32 else 0)


@pytest.mark.parametrize("budget", [Budget("L2", 0.3), Budget("Linf", 0.5)])
def test_contrast_is_for_radii_in_linf_that_leave_something(budget: Budget) -> None:
    assert purifier_for(Bright(), drawings(1, 28, 28), [budget]) == PurifierSpec()


def test_a_classifier_that_contrast_disturbs_gets_none() -> None:
    class Greys(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            grey = ((images > 0) & (images < 1)).float().mean((1, 2, 3))
            return torch.stack([grey, 0.05 + 0 * grey], 1)

    some = drawings(1, 28, 28)
    greyed = Dataset("greyed", torch.where(some.images == 0.5, 0.05, some.images), None)
    assert purifier_for(Greys(), greyed, [BUDGET]) == PurifierSpec()


@pytest.mark.parametrize(
    ("kind", "named", "read"),
    [
        (None, None, None),
        (None, ("output",), ("output",)),
        ("corrective", ("output",), ("input", "output")),
        ("corrective", ("output", "input"), ("output", "input")),
    ],
)
def test_layers_that_are_named_are_read_and_the_image_where_it_is_corrected(
    kind: Literal["corrective"] | None, named: tuple[str, ...] | None, read: tuple[str, ...] | None
) -> None:
    assert reading(PurifierSpec(kind=kind), named) == PurifierSpec(kind=kind, layers=read)
