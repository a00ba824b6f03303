from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset as Items
from torch.utils.data import Subset, TensorDataset

from carso import data
from carso.errors import DataError

GENERATOR = torch.Generator().manual_seed(0)
IMAGES = torch.rand(10, 3, 4, 5, generator=GENERATOR)
LABELS = torch.arange(10) % 3


class Listed(Items[Any]):
    """Items made by a function, of which it is noted which were read."""

    def __init__(self, make: Callable[[int], Any], count: int = 10) -> None:
        self.make, self.count, self.read = make, count, list[int]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        self.read.append(index)
        return self.make(index)


@pytest.mark.parametrize(
    ("items", "workers"),
    [
        (TensorDataset(IMAGES, LABELS), 0),
        (Subset(TensorDataset(IMAGES.repeat(2, 1, 1, 1), LABELS.repeat(2)), range(10)), 0),
        (Listed(lambda at: {"image": IMAGES[at], "label": LABELS[at], "more": at}), 0),
        (Listed(lambda at: (IMAGES[at], int(LABELS[at]))), 0),
        (Listed(lambda at: (IMAGES[at], int(LABELS[at]))), 2),
    ],
    ids=["tensors", "subset", "mappings", "pairs", "in processes"],
)
def test_any_map_style_data_set_is_one_of_ours(items: Items[Any], workers: int) -> None:
    ours = data.from_torch(items, "mine", workers=workers)
    assert (ours.name, ours.shape, len(ours), ours.classes) == ("mine", (3, 4, 5), 10, ("0", "1", "2"))
    assert torch.equal(ours.images, IMAGES)
    assert torch.equal(ours.required_labels, LABELS)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(1))
    found = list(ours[2:].batches(order[order < 8].split(3)))
    assert torch.equal(torch.cat(found), IMAGES[2:][order[order < 8]])


def test_targets_spare_the_reading_of_all_items_unless_items_differ_from_them() -> None:
    quick, changed = (Listed(lambda at, k=k: (IMAGES[at], (int(LABELS[at]) + k) % 3)) for k in (0, 1))
    for items in (quick, changed):
        items.targets = LABELS.tolist()  # type: ignore[attr-defined]
    assert torch.equal(data.from_torch(quick, "mine").required_labels, LABELS)
    assert quick.read == [0]
    assert torch.equal(data.from_torch(changed, "mine").required_labels, (LABELS + 1) % 3)


def test_targets_that_items_transform_are_not_taken_for_the_labels() -> None:
    """As torchvision's sets do; the first label is 0 either way."""
    transformed = Listed(lambda at: (IMAGES[at], int(LABELS[at]) % 2))
    transformed.targets = LABELS.tolist()  # type: ignore[attr-defined]
    transformed.target_transform = lambda label: label % 2  # type: ignore[attr-defined]
    assert not torch.equal(LABELS, LABELS % 2)
    assert int(LABELS[0]) % 2 == LABELS[0]
    assert torch.equal(data.from_torch(transformed, "mine").required_labels, LABELS % 2)


def test_images_alone_have_no_labels_and_bytes_stay_bytes() -> None:
    ours = data.from_torch(Listed(lambda at: (IMAGES[at] * 255).byte()), "mine")
    assert (ours.labels, ours.classes) == (None, ())
    assert torch.equal(ours.images, (IMAGES * 255).byte() / 255)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: ("a picture", 0), r"item 0 must hold an image as a tensor \(C, H, W\), and holds a str; transform"),
        (lambda at: (IMAGES[at, 0], 0), r"item 0 must hold .* and holds a tensor \(4, 5\)"),
        (lambda at: {"img": IMAGES[at]}, "its items have the keys img, not 'image'; pass keys"),
        (lambda at: 1 / 0, "is damaged .ZeroDivisionError"),
    ],
)
def test_other_items_are_refused_at_once(make: Callable[[int], Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^mine: {message}"):
        data.from_torch(Listed(make), "mine")
    with pytest.raises(DataError, match=r"^mine: has no items"):
        data.from_torch(Listed(make, 0), "mine")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: (IMAGES[at] * 2 - 1, 0), r"must lie in \[0, 1\] but span .*leave standardisation to the model"),
        (lambda at: (IMAGES[at].double(), 0), "float32 in .*not torch.float64"),
        (lambda at: (IMAGES[at, :, at:], 0), "is damaged .*stack expects each tensor to be equal size"),
    ],
)
def test_other_images_are_refused_when_they_are_read(make: Callable[[int], Any], message: str) -> None:
    items = Listed(make)
    items.targets = [0] * 10  # type: ignore[attr-defined]
    ours = data.from_torch(items, "mine", ["only"])
    with pytest.raises(DataError, match=f"^mine: .*{message}"):
        _ = ours.images


def test_a_label_beyond_the_classes_is_refused() -> None:
    with pytest.raises(DataError, match=r"^mine: label 2 of image 2 is not one of the 2 classes"):
        data.from_torch(TensorDataset(IMAGES, LABELS), "mine", ["a", "b"])


@pytest.mark.parametrize("workers", [0, 1])
def test_items_drawn_at_random_follow_from_the_seed(workers: int) -> None:
    ours = data.from_torch(Listed(lambda at: IMAGES[at] * torch.rand(())), "mine", workers=workers)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(ours.images)
    first, again, other = found
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
