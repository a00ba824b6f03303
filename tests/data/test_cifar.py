import os
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carso import data
from carso.errors import DataError

RNG = np.random.default_rng(0)
NAMES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
PIXELS = {name: RNG.integers(0, 256, (4, 3072), dtype=np.uint8) for name in NAMES}
LABELS = {name: RNG.integers(0, 10, 4).tolist() for name in NAMES}


def write_batches(folder: Path, protocol: int = 2, **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name in NAMES:
        batch = {b"batch_label": b"some", b"data": PIXELS[name], b"labels": LABELS[name], **changes.get(name, {})}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    return folder


def images(pixels: np.ndarray) -> torch.Tensor:
    planes = [pixels[:, plane * 1024 : (plane + 1) * 1024].reshape(-1, 32, 32) for plane in range(3)]
    return torch.tensor(np.stack(planes, 1) / 255, dtype=torch.float32)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_reads_the_three_splits(tmp_path: Path, protocol: int) -> None:
    folder = write_batches(tmp_path / "cifar-10-batches-py", protocol)
    pixels = np.concatenate([PIXELS[name] for name in NAMES[:5]])
    labels = [label for name in NAMES[:5] for label in LABELS[name]]
    train, validation, test = (data.load(folder, split) for split in ("train", "validation", "test"))
    assert torch.equal(train.images, images(pixels[:18]))
    assert torch.equal(validation.images, images(pixels[18:]))
    assert torch.equal(test.images, images(PIXELS["test_batch"]))
    assert train.labels is not None
    assert validation.labels is not None
    assert train.labels.tolist() + validation.labels.tolist() == labels
    assert (train.name, train.classes[0], train.classes[9]) == ("cifar10", "airplane", "truck")


def test_finds_the_batches_in_the_folder_above(tmp_path: Path) -> None:
    write_batches(tmp_path / "cifar-10-batches-py")
    assert len(data.load(tmp_path, "test")) == 4


def python_2_pickle(batch: dict[bytes, Any]) -> bytes:
    """What Python 2 wrote: bytes as SHORT_BINSTRING or BINSTRING, arrays by numpy.core.multiarray."""
    pixels = batch[b"data"]
    raw = pixels.tobytes()
    return b"".join(
        [
            b"\x80\x02}q\x00(U\x04datacnumpy.core.multiarray\n_reconstruct\n",
            b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01",
            b"K" + bytes([len(pixels)]) + b"M" + (3072).to_bytes(2, "little") + b"\x86",
            b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89",
            b"T" + len(raw).to_bytes(4, "little") + raw + b"tb",
            b"U\x06labels](" + b"".join(b"K" + bytes([label]) for label in batch[b"labels"]) + b"eu.",
        ]
    )


def test_reads_the_published_python_2_pickles(tmp_path: Path) -> None:
    written = python_2_pickle({b"data": PIXELS["test_batch"], b"labels": LABELS["test_batch"]})
    assert not any(opcode.name.startswith("BINUNICODE") for opcode, _, _ in pickletools.genops(written))
    (tmp_path / "test_batch").write_bytes(written)
    test = data.load(tmp_path, "test")
    assert torch.equal(test.images, images(PIXELS["test_batch"]))
    assert test.labels is not None
    assert test.labels.tolist() == LABELS["test_batch"]


class Trap:
    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_runs_nothing_that_a_pickle_asks_for(tmp_path: Path, protocol: int) -> None:
    victim = tmp_path / "victim"
    write_batches(tmp_path, protocol, test_batch={b"extra": Trap(os.mkdir, str(victim))})
    with pytest.raises(DataError, match=r"test_batch: asks to run 'posix.mkdir'.*do not trust"):
        data.load(tmp_path, "test")
    assert not victim.exists()


@pytest.mark.parametrize("call", [eval, getattr, np.load, np.fromfile])
def test_only_arrays_and_containers_are_let_through(tmp_path: Path, call: Any) -> None:
    write_batches(tmp_path, test_batch={b"extra": Trap(call, "1")})
    with pytest.raises(DataError, match="asks to run"):
        data.load(tmp_path, "test")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({b"data": PIXELS["test_batch"][:, :-1]}, r"bytes of shape \(n, 3072\)"),
        ({b"data": PIXELS["test_batch"].astype(float)}, r"bytes of shape \(n, 3072\)"),
        ({b"data": [1, 2]}, r"bytes of shape \(n, 3072\)"),
        ({b"labels": [0, 1, 2]}, "4 images but 3 labels"),
        ({b"labels": [0, 1, 2, 10]}, r"in 0\.\.9"),
        ({b"labels": ["a", "b", "c", "d"]}, "whole numbers"),
    ],
)
def test_says_what_is_wrong_with_which_batch(tmp_path: Path, change: dict[bytes, Any], message: str) -> None:
    write_batches(tmp_path, test_batch=change)
    with pytest.raises(DataError, match=f"test_batch: .*{message}"):
        data.load(tmp_path, "test")


def test_names_a_missing_batch(tmp_path: Path) -> None:
    (write_batches(tmp_path) / "data_batch_3").unlink()
    with pytest.raises(DataError, match="data_batch_3: there is no such file"):
        data.load(tmp_path, "train")


def test_names_a_truncated_batch(tmp_path: Path) -> None:
    path = write_batches(tmp_path) / "data_batch_5"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="data_batch_5: is damaged"):
        data.load(tmp_path, "validation")


def test_names_a_file_that_is_no_batch(tmp_path: Path) -> None:
    (tmp_path / "test_batch").write_bytes(pickle.dumps([1, 2, 3]))
    with pytest.raises(DataError, match="test_batch: is not a batch of cifar10"):
        data.load(tmp_path, "test")


def test_batches_with_text_for_keys_are_read(tmp_path: Path) -> None:
    batch = {"data": PIXELS["test_batch"], "labels": LABELS["test_batch"], "filenames": ["a.png"] * 4}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(batch))
    test = data.load(tmp_path, "test")
    assert torch.equal(test.images, images(PIXELS["test_batch"]))
    assert test.required_labels.tolist() == LABELS["test_batch"]


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("order", ["transposed", "part"])
def test_arrays_in_another_order_are_read(tmp_path: Path, protocol: int, order: str) -> None:
    pixels = PIXELS["test_batch"]
    stored = np.asfortranarray(pixels) if order == "transposed" else pixels.repeat(2, 0)[::2]
    write_batches(tmp_path, protocol, test_batch={b"data": stored})
    assert torch.equal(data.load(tmp_path, "test").images, images(pixels))


def test_labels_may_be_an_array_of_bytes(tmp_path: Path) -> None:
    write_batches(tmp_path, test_batch={b"labels": np.array(LABELS["test_batch"], np.uint8)})
    assert data.load(tmp_path, "test").required_labels.tolist() == LABELS["test_batch"]


def write_cifar_100(folder: Path, keys: type = bytes) -> tuple[np.ndarray, list[int]]:
    folder.mkdir()
    pixels, labels = RNG.integers(0, 256, (40, 3072), dtype=np.uint8), RNG.integers(0, 100, 40).tolist()
    for name, part in (("train", slice(30)), ("test", slice(30, 40))):
        batch = {"data": pixels[part], "fine_labels": labels[part], "coarse_labels": [0] * 40, "batch_label": b"some"}
        keyed = {key.encode() if keys is bytes else key: value for key, value in batch.items()}
        (folder / name).write_bytes(pickle.dumps(keyed, protocol=2))
    (folder / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"apple"]}))
    return pixels, labels


@pytest.mark.parametrize("keys", [bytes, str])
@pytest.mark.parametrize("above", [True, False])
def test_reads_cifar_100_with_its_fine_labels(tmp_path: Path, keys: type, above: bool) -> None:
    folder = tmp_path / "cifar-100-python"
    pixels, labels = write_cifar_100(folder, keys)
    parts = [data.load(tmp_path if above else folder, split) for split in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [27, 3, 10]
    assert torch.equal(torch.cat([part.images for part in parts]), images(pixels))
    assert torch.cat([part.required_labels for part in parts]).tolist() == labels
    assert {part.name for part in parts} == {"cifar100"}
    names = parts[0].classes
    assert (len(names), names[0], names[41], names[99]) == (100, "apple", "lawn_mower", "worm")
    assert list(names) == sorted(set(names))


def test_a_folder_with_both_sets_is_refused(tmp_path: Path) -> None:
    write_batches(tmp_path / "cifar-10-batches-py")
    write_cifar_100(tmp_path / "cifar-100-python")
    with pytest.raises(DataError, match="holds cifar-10-batches-py and cifar-100-python; pass the path of one"):
        data.load(tmp_path, "test")
    assert data.load(tmp_path / "cifar-100-python", "test").name == "cifar100"


def test_names_a_file_that_is_larger_than_any_batch(tmp_path: Path) -> None:
    write_batches(tmp_path)
    with (tmp_path / "test_batch").open("r+b") as file:
        file.truncate(20 * 2**30)
    with pytest.raises(DataError, match="test_batch: holds 21,474,836,480 bytes, more than the 536,870,912 of any"):
        data.load(tmp_path, "test")
