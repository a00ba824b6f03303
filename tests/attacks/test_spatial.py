from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import carso
from carso.attacks import spatial
from carso.attacks.losses import margin
from carso.corruptions.warp import posed
from carso.types import Budget, Severity


def where(images: Tensor) -> Tensor:
    """Logits (B, 2): how far to the left, and how far to the right of the centre the light is."""
    across = torch.linspace(-1, 1, images.shape[3])
    right = (images.mean((1, 2)) * across).sum(1)
    return torch.stack([-right, right], dim=1)


def spots(*columns: int) -> Tensor:
    images = torch.zeros(len(columns), 1, 21, 21)
    for image, column in zip(images, columns, strict=True):
        image[0, 10, column] = 1
    return images


def test_light_goes_as_far_to_the_other_side_as_it_may() -> None:
    images, labels = spots(12, 8), torch.tensor([1, 0])
    found = spatial(where, images, labels, Severity(5))
    assert where(images).argmax(1).eq(labels).all()
    assert (
        where(found).argmax(1).ne(labels).all() or margin(where(found), labels).gt(margin(where(images), labels)).all()
    )
    reach = 0.1 * 21
    centre = (found[:, 0].sum(1) * torch.arange(21)).sum(1) / found.sum((1, 2, 3))
    assert centre[0].item() < 12 - 0.9 * reach
    assert centre[1].item() > 8 + 0.9 * reach


def test_it_is_the_worst_of_its_grid() -> None:
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.rand(5, 1, 12, 12, generator=generator), torch.tensor([0, 1, 2, 0, 1])
    weights = torch.randn(144, 3, generator=generator)

    def model(images: Tensor) -> Tensor:
        return images.flatten(1) @ weights

    found = spatial(model, images, labels, Severity(2), turns=3, shifts=3)
    poses = [
        posed(images, torch.full((5,), 12.0 * turn), torch.tensor([[right, down]]).expand(5, 2) * 0.04 * 12)
        for turn, right, down in product((-1, 0, 1), (-1.0, 0.0, 1.0), (-1.0, 0.0, 1.0))
    ]
    most = torch.stack([margin(model(pose), labels) for pose in poses]).amax(0)
    torch.testing.assert_close(margin(model(found), labels), most)


def test_a_grid_of_one_leaves_the_image_where_it_is() -> None:
    images = spots(5, 15)
    found = spatial(where, images, torch.tensor([0, 1]), Severity(5), turns=1, shifts=1)
    torch.testing.assert_close(found, images)


@pytest.mark.whole
@pytest.mark.parametrize("severity", [3, 0.3, Budget("Linf", 0.3)])
def test_what_is_no_severity_is_refused(severity: Any) -> None:
    with pytest.raises(ValueError, match=r"severity must be a carso.Severity\(level\), not"):
        spatial(where, spots(3), torch.tensor([0]), severity)
    assert carso.Severity is Severity


def test_a_grid_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="turns must be at least 1, not 0"):
        spatial(where, spots(3), torch.tensor([0]), Severity(1), turns=0)
