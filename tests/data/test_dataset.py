import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from carso.data.dataset import Dataset, from_bytes
from carso.errors import DataError

IMAGES = torch.linspace(0, 1, 5 * 3 * 2 * 4).reshape(5, 3, 2, 4)
LABELS = torch.tensor([0, 1, 1, 0, 1])
PAIR = ("no", "yes")


def test_knows_its_length_and_shape() -> None:
    dataset = Dataset("d", IMAGES, LABELS, PAIR)
    assert len(dataset) == 5
    assert dataset.shape == (3, 2, 4)


@pytest.mark.parametrize(
    ("index", "positions"),
    [
        (slice(1, 3), [1, 2]),
        (slice(None, None, 2), [0, 2, 4]),
        (torch.tensor([4, 0, 0]), [4, 0, 0]),
        (torch.tensor([False, True, False, False, True]), [1, 4]),
    ],
)
def test_a_part_keeps_images_and_labels_together(index: slice | torch.Tensor, positions: list[int]) -> None:
    part = Dataset("d", IMAGES, LABELS, PAIR)[index]
    assert torch.equal(part.images, torch.stack([IMAGES[at] for at in positions]))
    assert part.labels is not None
    assert part.labels.tolist() == [int(LABELS[at]) for at in positions]
    assert part.classes == PAIR


def test_a_part_without_labels_has_none() -> None:
    assert Dataset("d", IMAGES)[:2].labels is None


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], r"shape \(N, C, H, W\), not \(3, 2, 4\)"),
        (IMAGES.double(), "float32.*not torch.float64"),
        ((IMAGES * 255).byte(), "not torch.uint8; bytes are to be divided by 255"),
        (IMAGES[:0], "no images"),
        (IMAGES * 255, r"\[0, 1\] but span 0 to 255"),
        (IMAGES - 0.5, "span -0.5 to 0.5"),
        (IMAGES * torch.tensor([1, 1, 1, 1.5, 1]).view(5, 1, 1, 1), "first in image 3"),
        (IMAGES * torch.tensor([1, 1, float("nan"), 1, 1]).view(5, 1, 1, 1), "image 2 holds NaN"),
        (torch.where(IMAGES == 1, float("inf"), IMAGES), "to inf"),
    ],
)
def test_refuses_what_are_not_images(images: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=f"(?s)^mine: .*{message}"):
        Dataset("mine", images)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (LABELS[:4], r"5 images need labels of shape \(5,\), not \(4,\)"),
        (LABELS[:, None], r"not \(5, 1\)"),
        (LABELS.float(), "int64"),
        (torch.tensor([0, 1, 2, 0, 1]), "label 2 of image 2 is not one of the 2 classes"),
        (torch.tensor([0, 1, 1, -1, 1]), "label -1 of image 3"),
    ],
)
def test_refuses_labels_that_do_not_fit(labels: torch.Tensor, message: str) -> None:
    with pytest.raises(DataError, match=f"^mine: .*{message}"):
        Dataset("mine", IMAGES, labels, PAIR)


def test_is_indexed_by_slices_and_tensors_only() -> None:
    with pytest.raises(TypeError):
        Dataset("d", IMAGES)[0]  # type: ignore[index]


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4))
def test_bytes_become_the_float32_nearest_to_v_over_255(values: list[int]) -> None:
    pixels = torch.tensor(values, dtype=torch.uint8).reshape(1, 1, 2, 2)
    images = from_bytes(pixels.numpy())
    assert images.dtype == torch.float32
    assert torch.equal(images, (pixels.double() / 255).float())
