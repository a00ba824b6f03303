import gzip
import hashlib
import shutil
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from carso import data
from carso.data import mnist
from carso.errors import DataError

CANONICAL = (
    ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
)
RNG = np.random.default_rng(0)
TRAIN = RNG.integers(0, 256, (36, 5, 4)), np.arange(36) % 4
TEST = RNG.integers(0, 256, (6, 5, 4)), np.arange(6) % 3


def write_set(write_idx: Callable[..., Path], suffix: str = "", dot: bool = False) -> Path:
    for names, arrays in zip(CANONICAL, (TRAIN, TEST), strict=True):
        for name, values in zip(names, arrays, strict=True):
            path = write_idx((name.replace("-idx", ".idx") if dot else name) + suffix, values)
    return path.parent


@pytest.fixture(scope="module")
def splits() -> dict[str, data.Dataset]:
    return {split: data.load("mnist", split) for split in ("train", "validation", "test")}


def test_ships_the_published_files() -> None:
    folder = resources.files("carso").joinpath("assets", "mnist")
    for name, published in mnist.MD5.items():
        assert hashlib.md5(folder.joinpath(name).read_bytes()).hexdigest() == published


def test_has_the_published_digits(splits: dict[str, data.Dataset]) -> None:
    train, validation, test = splits.values()
    assert [len(part) for part in splits.values()] == [55_000, 5_000, 10_000]
    assert train.shape == validation.shape == test.shape == (1, 28, 28)
    assert train.classes == tuple("0123456789")
    assert train.labels is not None
    assert validation.labels is not None
    assert test.labels is not None
    assert train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    counts = train.labels.bincount() + validation.labels.bincount()
    assert counts.tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_has_the_published_mean_and_deviation(splits: dict[str, data.Dataset]) -> None:
    levels = [(splits[split].images * 255).round_().byte().flatten() for split in ("train", "validation")]
    counts = sum(level.bincount(minlength=256) for level in levels).double()
    values, shares = torch.arange(256) / 255, counts / counts.sum()
    mean = (values * shares).sum()
    assert mean.item() == pytest.approx(0.1307, abs=5e-5)
    assert ((values - mean) ** 2 * shares).sum().sqrt().item() == pytest.approx(0.3081, abs=5e-5)


def test_validation_is_the_end_of_the_training_file(splits: dict[str, data.Dataset]) -> None:
    raw = gzip.decompress(resources.files("carso").joinpath("assets/mnist/train-images-idx3-ubyte.gz").read_bytes())
    last = np.frombuffer(raw, np.uint8, offset=16)[-5000 * 784 :].reshape(5000, 1, 28, 28)
    assert torch.equal(splits["validation"].images, torch.tensor(last / 255, dtype=torch.float32))


def test_a_folder_with_the_same_files_is_the_same_set(splits: dict[str, data.Dataset], shared: Path) -> None:
    for split in ("validation", "test"):
        other = data.load(shared / "data" / "mnist", split)
        assert torch.equal(other.images, splits[split].images)
        assert torch.equal(other.labels, splits[split].labels)
        assert other.classes == splits[split].classes


def test_notices_a_shipped_file_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(mnist.MD5, "t10k-labels-idx1-ubyte.gz", "0" * 32)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz: its MD5 is not the published.*reinstall"):
        data.load("mnist", "test")


def test_notices_a_shipped_file_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(mnist.resources, "files", lambda _: tmp_path)
    with pytest.raises(DataError, match=r"train-images.*cannot be read.*reinstall"):
        data.load("mnist", "train")


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("dot", [False, True])
def test_reads_a_folder_in_either_spelling(write_idx: Callable[..., Path], suffix: str, dot: bool) -> None:
    folder = write_set(write_idx, suffix, dot)
    parts = {split: data.load(str(folder), split) for split in ("train", "validation", "test")}
    for split, images, labels in (
        ("train", TRAIN[0][:33], TRAIN[1][:33]),
        ("validation", TRAIN[0][33:], TRAIN[1][33:]),
        ("test", *TEST),
    ):
        assert torch.equal(parts[split].images, torch.tensor(images[:, None] / 255, dtype=torch.float32))
        assert torch.equal(parts[split].labels, torch.tensor(labels))
        assert parts[split].classes == ("0", "1", "2", "3")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_names_the_missing_file(write_idx: Callable[..., Path], name: str) -> None:
    folder = write_set(write_idx)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"there is no {name} or {name.replace('-idx', '.idx')}"):
        data.load(folder, "train")
    assert len(data.load(folder, "test")) == 6


def test_a_folder_without_any_labels_is_a_set_without_labels(write_idx: Callable[..., Path]) -> None:
    folder = write_set(write_idx)
    for _, labels in CANONICAL:
        (folder / labels).unlink()
    train = data.load(folder, "train")
    assert train.labels is None
    assert train.classes == ()
    assert len(train) == 33
    assert train.in_turns() is train


def test_names_both_files_where_counts_differ(write_idx: Callable[..., Path]) -> None:
    folder = write_set(write_idx)
    write_idx("t10k-labels-idx1-ubyte", TEST[1][:4])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte holds 6 images but .*t10k-labels-idx1-ubyte 4 labels"):
        data.load(folder, "test")


def test_notices_swapped_files(write_idx: Callable[..., Path]) -> None:
    folder = write_set(write_idx)
    shutil.copy(folder / "train-labels-idx1-ubyte", folder / "train-images-idx3-ubyte")
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte: wrong magic.*file of labels"):
        data.load(folder, "train")


def test_notices_a_truncated_file(write_idx: Callable[..., Path]) -> None:
    folder = write_set(write_idx)
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte: truncated.*6 x 5 x 4 values but 113 follow"):
        data.load(folder, "test")


def test_fashion_mnist_comes_from_debians_folder(
    write_idx: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "FASHION_FOLDER", write_set(write_idx, ".gz"))
    for name in ("fashion-mnist", "fashion"):
        test = data.load(name, "test")
        assert (test.name, test.classes[9]) == ("fashion-mnist", "ankle boot")
        assert torch.equal(test.labels, torch.tensor(TEST[1]))


LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
EMNIST = {
    "byclass": "0123456789" + LETTERS + LETTERS.lower(),
    "bymerge": "0123456789" + LETTERS + "abdefghnqrt",
    "balanced": "0123456789" + LETTERS + "abdefghnqrt",
    "letters": LETTERS,
    "digits": "0123456789",
    "mnist": "0123456789",
}


def write_emnist(write_idx: Callable[..., Path], name: str, first: int) -> Path:
    """Images are stored transposed there; labels of letters begin at 1."""
    for part, (images, _) in (("train", TRAIN), ("test", TEST)):
        write_idx(f"emnist-{name}-{part}-images-idx3-ubyte.gz", images.swapaxes(1, 2))
        path = write_idx(f"emnist-{name}-{part}-labels-idx1-ubyte.gz", np.arange(len(images)) % 9 + first)
    return path.parent


@pytest.mark.parametrize("name", EMNIST)
def test_emnist_is_read_upright_with_its_names(write_idx: Callable[..., Path], name: str) -> None:
    folder = write_emnist(write_idx, name, first=int(name == "letters"))
    test = data.load(folder, "test")
    assert torch.equal(test.images, torch.tensor(TEST[0][:, None] / 255, dtype=torch.float32))
    assert test.required_labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert test.classes == tuple(EMNIST[name])
    assert [len(data.load(folder, split)) for split in ("train", "validation")] == [33, 3]


def test_a_letter_before_the_first_is_refused(write_idx: Callable[..., Path]) -> None:
    folder = write_emnist(write_idx, "letters", first=0)
    with pytest.raises(DataError, match=r"emnist-letters-test-labels.*: has the label 0, but this set's begin at 1"):
        data.load(folder, "test")


def test_several_sets_in_a_folder_are_named(write_idx: Callable[..., Path]) -> None:
    write_set(write_idx)
    write_emnist(write_idx, "digits", first=0)
    folder = write_emnist(write_idx, "letters", first=1)
    with pytest.raises(DataError, match=r"holds the files of several sets \(train, emnist-letters.*, emnist-digits"):
        data.load(folder, "test")
