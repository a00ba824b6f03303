from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as Items
from torch.utils.data import IterableDataset, Subset, TensorDataset

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
    changed.targets = list("abcabcabca")  # type: ignore[attr-defined]
    assert torch.equal(data.from_torch(changed, "mine").required_labels, (LABELS + 1) % 3)
    assert torch.equal(data.from_torch(changed, "mine").required_labels, (LABELS + 1) % 3)


def test_targets_that_items_transform_are_not_taken_for_the_labels() -> None:
    """As torchvision's sets do; the first label is 0 either way."""
    transformed = Listed(lambda at: (IMAGES[at], int(LABELS[at]) % 2))
    transformed.targets = LABELS.tolist()  # type: ignore[attr-defined]
    transformed.target_transform = lambda label: label % 2  # type: ignore[attr-defined]
    assert not torch.equal(LABELS, LABELS % 2)
    assert int(LABELS[0]) % 2 == LABELS[0]
    assert torch.equal(data.from_torch(transformed, "mine").required_labels, LABELS % 2)


def pictures_of(kind: Any) -> Any:
    """Four pictures, red, green, blue and red, with labels by name, as one of Hugging Face's `datasets`.

    Its fingerprint is given: to make one, some versions pickle what pyarrow does not let them.
    """
    shades = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 0, 0)]
    features = kind.Features({"image": kind.Image(), "label": kind.ClassLabel(names=["ruby", "jade", "sky", "more"])})
    found = {"image": [Image.new("RGB", (5, 4), shade) for shade in shades], "label": [0, 1, 2, 0]}
    table = kind.table.InMemoryTable.from_pydict(features.encode_batch(found), schema=features.arrow_schema)
    return kind.Dataset(table, info=kind.DatasetInfo(features=features), fingerprint="pictures")


def test_data_sets_of_hugging_face_tell_names_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = pictures_of(pytest.importorskip("datasets"))
    read: list[int] = []
    monkeypatch.setattr(data.foreign.Reader, "_read", lambda *_: read.append(1) or iter(()))
    ours = data.from_torch(theirs.with_format("torch"), "theirs")
    assert (ours.classes, ours.required_labels.tolist()) == (("ruby", "jade", "sky", "more"), [0, 1, 2, 0])
    assert not read
    monkeypatch.undo()
    assert ours.shape == (3, 4, 5)
    assert ours.images[1].mean((1, 2)).tolist() == [0, 1, 0]
    assert theirs.with_transform(dict).format["type"] == "custom"


class Tabled(Listed):
    """As Hugging Face's `datasets` behave: a string asks for a column, a number for an item."""

    format: ClassVar = {"type": "torch"}
    features: ClassVar = {"image": object(), "label": SimpleNamespace(names=["ruby", "jade", "sky", "more"])}

    def __getitem__(self, index: Any) -> Any:
        return LABELS if index == "label" else super().__getitem__(index)


def test_a_column_spares_the_reading_of_all_items_unless_they_are_transformed() -> None:
    theirs = Tabled(lambda at: {"image": IMAGES[at], "label": LABELS[at]})
    ours = data.from_torch(theirs, "theirs")
    assert ours.classes == ("ruby", "jade", "sky", "more")
    assert torch.equal(ours.required_labels, LABELS)
    assert theirs.read == [0]
    assert data.from_torch(theirs, "theirs", ("a", "b", "c")).classes == ("a", "b", "c")
    turned = Tabled(lambda at: {"image": IMAGES[at], "label": 4 * LABELS[at]})
    turned.format = {"type": "custom"}  # type: ignore[misc]
    ours = data.from_torch(turned, "theirs")
    assert torch.equal(ours.required_labels, 4 * LABELS)
    assert ours.classes == tuple(map(str, range(9)))


def test_images_alone_have_no_labels_and_bytes_stay_bytes() -> None:
    ours = data.from_torch(Listed(lambda at: (IMAGES[at] * 255).byte()), "mine")
    assert (ours.labels, ours.classes) == (None, ())
    assert torch.equal(ours.images, (IMAGES * 255).byte() / 255)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: ("a picture", 0), r"must hold an image as a tensor \(C, H, W\), .* and holds a str; transform it"),
        (lambda at: (IMAGES[at, 0], 0), r"must hold .* and holds a tensor \(4, 5\)"),
        (lambda at: (IMAGES[at, :, :0], 0), r"must hold .* none of them 0, and holds a tensor \(3, 0, 5\)"),
        (lambda at: (), r"must hold .* and holds a tuple"),
        (lambda at: {"img": IMAGES[at]}, "has the keys img, not 'image'; pass keys"),
        (lambda at: 1 / 0, "is damaged .ZeroDivisionError"),
        (lambda at: (IMAGES[at], "cat"), "must have a whole number from 0 to 999,999 for its label, and has 'cat'"),
        (lambda at: (IMAGES[at], 1.5), r"must have a whole number .* and has 1\.5"),
        (lambda at: (IMAGES[at], torch.eye(3)[0]), r"must have a whole number .* and has tensor\("),
        (lambda at: (IMAGES[at], 2**31 - 1), r"must have a whole number .* and has 2147483647"),
    ],
)
def test_other_items_are_refused_at_once(make: Callable[[int], Any], message: str) -> None:
    with pytest.raises(DataError, match=f"^mine: item 0: {message}"):
        data.from_torch(Listed(make), "mine")
    with pytest.raises(DataError, match=r"^mine: has no items"):
        data.from_torch(Listed(make, 0), "mine")


class Endless(IterableDataset[Any]):
    """Items one after the other, without numbers."""

    def __iter__(self) -> Iterator[Any]:
        return iter(TensorDataset(IMAGES, LABELS))


class Unmeasured(Items[Any]):
    """Items by number, of which nobody knows how many."""

    def __getitem__(self, index: int) -> Any:
        return IMAGES[index], 0


@pytest.mark.parametrize("items", [Endless(), Unmeasured()])
def test_what_is_not_map_style_is_refused(items: Any) -> None:
    with pytest.raises(DataError, match=f"^mine: must be a map-style .* and is a {type(items).__name__}; a list of"):
        data.from_torch(items, "mine")


@pytest.mark.parametrize("later", [1.5, "cat", 2**31 - 1, 2**70])
@pytest.mark.parametrize("listed", [True, False])
def test_a_later_label_that_is_no_whole_number_is_refused(later: Any, listed: bool) -> None:
    labels = [0, *[1] * 8, later]
    items = Listed(lambda at: (IMAGES[at], labels[at]))
    if listed:
        items.targets = labels  # type: ignore[attr-defined]
    told = "labels must be whole numbers from 0 to 999,999, and (some are|that of item 9 is)"
    with pytest.raises(DataError, match=f"^mine: {told if listed else 'item 9: must have a whole number'}"):
        data.from_torch(items, "mine")


@pytest.mark.parametrize(
    "targets",
    [10, {at: at for at in range(10)}, lambda: [0] * 10, torch.tensor(0), torch.eye(10), [torch.eye(2)] * 10],
    ids=["number", "mapping", "method", "tensor", "table", "list of tables"],
)
def test_targets_that_are_no_list_of_labels_are_left_alone(targets: Any) -> None:
    items = Listed(lambda at: (IMAGES[at], int(LABELS[at])))
    items.targets = targets  # type: ignore[attr-defined]
    assert torch.equal(data.from_torch(items, "mine").required_labels, LABELS)


@pytest.mark.parametrize(
    ("first", "later", "message"),
    [
        ((IMAGES[0], 0), (IMAGES[1, :, 1:], 1), r"holds a tensor \(3, 3, 5\) of torch.float32 for its image, and"),
        ((IMAGES[0], 0), (IMAGES[1].double(), 1), r"holds a tensor \(3, 4, 5\) of torch.float64 for its image, and"),
        ((IMAGES[0], 0), (IMAGES[1].numpy(), 1), r"holds a ndarray for its image, and item 0 a tensor \(3, 4, 5\)"),
        ((IMAGES[0], 0), (IMAGES[1], None), "has no label, and item 0 has one; give all a label, or none"),
        ((IMAGES[0], 0), (IMAGES[1],), "has no label, and item 0 has one; give all a label, or none"),
        ((IMAGES[0], None), (IMAGES[1], 1), "has a label, and item 0 has none; give all a label, or none"),
        ({"image": IMAGES[0], "label": 0}, {"image": IMAGES[1]}, "has no label, and item 0 has one"),
        ({"image": IMAGES[0], "label": 0}, {"picture": IMAGES[1]}, "has the keys picture, not 'image'; pass keys"),
        ((IMAGES[0], 0), ValueError("no file.png"), r"is damaged \(ValueError: no file\.png\); fetch or make it again"),
    ],
)
@pytest.mark.parametrize(("workers", "part"), [(0, False), (0, True), (1, False)])
def test_an_item_unlike_the_first_is_named(first: Any, later: Any, message: str, workers: int, part: bool) -> None:
    """In a process of its own, and behind a `Subset`, which fetches many at once, too."""

    def made(at: int) -> Any:
        if at == 7 and isinstance(later, Exception):
            raise later
        return later if at == 7 else first

    items = Subset(Listed(made), range(10)) if part else Listed(made)
    with pytest.raises(DataError, match=f"^mine: item 7: {message}"):
        _ = data.from_torch(items, "mine", workers=workers).images


def test_items_of_an_image_alone_in_a_tuple_have_no_labels() -> None:
    ours = data.from_torch(Listed(lambda at: (IMAGES[at],)), "mine")
    assert ours.labels is None
    assert torch.equal(ours.images, IMAGES)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda at: (IMAGES[at] * 2 - 1, 0), r"must lie in \[0, 1\] but span .*leave standardisation to the model"),
        (lambda at: (IMAGES[at].double(), 0), "float32 in .*not torch.float64"),
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
