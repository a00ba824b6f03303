"""No image is in two splits, whichever loader read it, and none is lost."""

import gzip
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from carso import data
from carso.data import mnist
from carso.data.splits import Split, end, shared_out
from carso.errors import DataError

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
NAMES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")


def unique(first: int, count: int, *shape: int) -> np.ndarray:
    """Bytes (count, *shape), each image unlike any with another number."""
    images = np.zeros((count, int(np.prod(shape))), np.uint8)
    for at in range(count):
        images[at, :2] = divmod(first + at, 251)
    return images.reshape(count, *shape)


def write_idx(path: Path, values: np.ndarray) -> None:
    header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def write_pictures(folder: Path, first: int, count: int) -> None:
    folder.mkdir(parents=True)
    for at, pixels in enumerate(unique(first, count, 2, 3)):
        Image.fromarray(pixels).save(folder / f"{at:03}.png")


def idx(folder: Path, train: str = "train", test: str = "t10k", first: int = 0) -> int:
    for name, offset, count in ((train, 0, 50), (test, 50, 20)):
        write_idx(folder / f"{name}-images-idx3-ubyte.gz", unique(offset, count, 3, 4))
        write_idx(folder / f"{name}-labels-idx1-ubyte.gz", np.arange(count) % 3 + first)
    return 70


def emnist(folder: Path) -> int:
    return idx(folder, "emnist-letters-train", "emnist-letters-test", 1)


def cifar_10(folder: Path) -> int:
    for at, name in enumerate(NAMES):
        batch = {"data": unique(6 * at, 6, 3072), "labels": [at] * 6}
        (folder / name).write_bytes(pickle.dumps(batch))
    return 36


def cifar_100(folder: Path) -> int:
    for offset, name, count in ((0, "train", 30), (30, "test", 10)):
        batch = {"data": unique(offset, count, 3072), "fine_labels": [offset] * count}
        (folder / name).write_bytes(pickle.dumps(batch))
    return 40


def flat(folder: Path) -> int:
    write_pictures(folder / "all", 0, 30)
    for path in (folder / "all").iterdir():
        path.rename(folder / path.name)
    (folder / "all").rmdir()
    return 30


def classes(folder: Path) -> int:
    for at, size in enumerate((11, 30, 7)):
        write_pictures(folder / "abc"[at] / "deeper", 50 * at, size)
    return 48


def train_and_test(folder: Path) -> int:
    for at, name in enumerate(("Train/a", "Train/b", "Test/a", "Test/b")):
        write_pictures(folder / name, 50 * at, 20)
    return 80


def all_three(folder: Path) -> int:
    for at, name in enumerate(("train/a", "train/b", "VAL/a", "VAL/b", "test/a", "test/b")):
        write_pictures(folder / name, 50 * at, 5)
    return 30


def digests(dataset: data.Dataset) -> list[bytes]:
    return [image.numpy().tobytes() for image in dataset.images]


def check(source: str | Path, total: int) -> None:
    parts = [digests(data.load(source, split)) for split in SPLITS]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts)) == total


@pytest.mark.parametrize(
    "write", [idx, emnist, cifar_10, cifar_100, flat, classes, train_and_test, all_three], ids=lambda w: w.__name__
)
def test_no_image_is_in_two_splits(tmp_path: Path, write: Callable[[Path], int]) -> None:
    check(tmp_path, write(tmp_path))


def test_no_digit_of_mnist_is_in_two_splits() -> None:
    check("mnist", 70_000)


def test_no_garment_is_in_two_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = idx(tmp_path)
    monkeypatch.setattr(mnist, "FASHION_FOLDER", tmp_path)
    check("fashion-mnist", total)


@pytest.mark.parametrize("count", range(1, 40))
@pytest.mark.parametrize("test", [True, False])
def test_every_item_is_shared_out_once_and_in_order(count: int, test: bool) -> None:
    classes = [range(count // 3), range(count // 3, count)]
    taken = {split: shared_out(split, classes, str, test=test) for split in SPLITS}
    assert sorted(item for part in taken.values() for item in part) == list(range(count))
    assert all(part == sorted(part) for part in taken.values())
    assert len(taken["validation"]) == count // 12
    assert len(taken["test"]) == ((count + 3) // 6 if test else 0)


@pytest.mark.parametrize("at", range(0, 120, 7))
def test_a_picture_that_comes_moves_hardly_another_and_none_from_train_to_test(at: int) -> None:
    before = [[f"{number}.png" for number in range(40 * at, 40 * at + 40)] for at in range(3)]
    after = [[*names, "new.png"] if at // 40 == place else names for place, names in enumerate(before)]
    was, now = ({s: set(shared_out(s, names, str, test=True)) for s in SPLITS} for names in (before, after))
    assert not was["train"] & now["test"]
    assert sum(len(was[split] - now[split]) for split in SPLITS) <= 4


def test_the_end_of_a_file_is_held_out() -> None:
    assert list(range(60))[end("train", 60, 5, "mine")] == list(range(55))
    assert list(range(60))[end("validation", 60, 5, "mine")] == list(range(55, 60))
    assert list(range(10))[end("test", 10, 0, "mine")] == list(range(10))
    with pytest.raises(DataError, match=r"^mine: holds too few training images \(1\) to hold any out for validation$"):
        end("validation", 1, 0, "mine")


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_training_images(tmp_path: Path, count: int) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte", unique(0, count, 3, 4))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.arange(count))
    assert len(data.load(tmp_path, "train")) == 1
    if count == 2:
        assert data.load(tmp_path, "validation").required_labels.tolist() == [1]
    else:
        with pytest.raises(DataError, match=r"holds too few training images \(1\) to hold any out for validation"):
            data.load(tmp_path, "validation")


def test_one_image_in_the_last_batch_of_cifar(tmp_path: Path) -> None:
    for at, name in enumerate(NAMES[:5]):
        batch = {"data": unique(at, 1, 3072), "labels": [at]}
        (tmp_path / name).write_bytes(pickle.dumps(batch))
    assert data.load(tmp_path, "train").required_labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match=r"data_batch_5: holds too few training images \(1\) to hold any out"):
        data.load(tmp_path, "validation")
