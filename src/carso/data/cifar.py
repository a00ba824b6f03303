"""CIFAR-10 and CIFAR-100 from their canonical folders, `cifar-10-batches-py` and `cifar-100-python`.

Each file is a pickled dictionary of `data`, bytes (n, 3072) in channel, row, column order, and of labels: `labels` in
CIFAR-10, `fine_labels` in CIFAR-100. The last 5,000 training images (in general the last half of `data_batch_5` or the
last tenth of `train`) are held out as `validation`.

Krizhevsky: Learning multiple layers of features from tiny images (2009).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carso.data.dataset import Dataset
from carso.data.pickles import unpickle
from carso.data.reading import decoding, naming, read_bytes
from carso.data.splits import Split, end
from carso.errors import DataError
from carso.progress import track

MOST = 2**29
"""The most bytes of a batch; CIFAR-100's, the largest, has 155 million."""


@dataclass(frozen=True)
class Cifar:
    """One of the two sets.

    Attributes:
        name: what results call it.
        folder: the canonical one.
        training: its files; in `test` is the rest.
        test: the file of test images.
        held_out: one in so many of the images of the last training file is held out.
        labels: the key of the labels.
        classes: the names of the labels.
    """

    name: str
    folder: str
    training: tuple[str, ...]
    test: str
    held_out: int
    labels: str
    classes: tuple[str, ...]


_TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""

CIFAR_10 = Cifar(
    name="cifar10",
    folder="cifar-10-batches-py",
    training=tuple(f"data_batch_{number}" for number in range(1, 6)),
    test="test_batch",
    held_out=2,
    labels="labels",
    classes=_TEN,
)
CIFAR_100 = Cifar(
    name="cifar100",
    folder="cifar-100-python",
    training=("train",),
    test="test",
    held_out=10,
    labels="fine_labels",
    classes=tuple(_FINE.split()),
)


def cifar_of(folder: Path) -> Cifar | None:
    """The set whose files lie in a folder, or in its canonical folder; None if there is none.

    Raises:
        DataError: if it holds both.
    """
    found = [cifar for cifar in (CIFAR_10, CIFAR_100) if _has(folder, cifar)]
    if len(found) > 1:
        raise DataError(f"{folder}: holds {' and '.join(cifar.folder for cifar in found)}; pass the path of one")
    return found[0] if found else None


def load_cifar(cifar: Cifar, folder: Path, split: Split) -> Dataset:
    """The images of a set: (N, 3, 32, 32) with N = 45,000, 5,000 or 10,000.

    Args:
        cifar: CIFAR-10 or CIFAR-100.
        folder: its canonical folder, or the one that holds it.
        split: `train`, `validation` or `test`.

    Raises:
        DataError: if a file is missing, damaged, or holds anything but images and labels; names it.
    """
    names = {"train": cifar.training, "validation": cifar.training[-1:], "test": (cifar.test,)}[split]
    files = [_batches(folder, cifar) / name for name in names]
    batches = [_read_batch(path, cifar) for path in track(files, f"reading {cifar.name}")]
    pixels, labels = zip(*batches, strict=True)
    kept = end(split, sum(map(len, pixels)), len(pixels[-1]) // cifar.held_out, str(files[-1]))
    images = np.concatenate(pixels)[kept].reshape(-1, 3, 32, 32)
    return Dataset(cifar.name, torch.from_numpy(images), torch.from_numpy(np.concatenate(labels)[kept]), cifar.classes)


def _has(folder: Path, cifar: Cifar) -> bool:
    return any((_batches(folder, cifar) / name).is_file() for name in (*cifar.training, cifar.test))


def _batches(folder: Path, cifar: Cifar) -> Path:
    return folder / cifar.folder if (folder / cifar.folder).is_dir() else folder


def _read_batch(path: Path, cifar: Cifar) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    data = read_bytes(path, MOST)
    with naming(path), decoding():
        batch = unpickle(data)
    if not (isinstance(batch, dict) and {"data", cifar.labels} <= batch.keys()):
        raise DataError(f"{path}: is not a batch of {cifar.name}, a dictionary of data and {cifar.labels}")
    pixels, labels = batch["data"], batch[cifar.labels]
    if not (isinstance(pixels, np.ndarray) and pixels.shape[1:] == (3072,)):
        raise DataError(f"{path}: data must be bytes of shape (n, 3072)")
    if len(pixels) == 0:
        raise DataError(f"{path}: holds no images")
    return pixels, _numbers(labels, len(pixels), cifar, path)


def _numbers(labels: Any, images: int, cifar: Cifar, path: Path) -> NDArray[np.int64]:
    listed = labels.tolist() if isinstance(labels, np.ndarray) else labels
    if not (isinstance(listed, list) and all(type(label) is int for label in listed)):
        raise DataError(f"{path}: {cifar.labels} must be a list of whole numbers")
    if len(listed) != images:
        raise DataError(f"{path}: holds {images} images but {len(listed)} labels")
    if not all(0 <= label < len(cifar.classes) for label in listed):
        raise DataError(f"{path}: {cifar.labels} must lie in 0..{len(cifar.classes) - 1}")
    return np.array(listed, dtype=np.int64)
