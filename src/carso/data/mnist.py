"""MNIST, shipped with the package, and sets laid out like it: Fashion-MNIST and folders of IDX files.

Of the 60,000 training images the last 5,000 (in general the last twelfth) are held out as `validation`.

LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998).
Xiao, Rasul, Vollgraf: Fashion-MNIST (2017).
"""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from carso.data import idx
from carso.data.dataset import Dataset, Split, from_bytes
from carso.errors import DataError

DIGITS = tuple("0123456789")
GARMENTS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
MD5 = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
"""The published checksums of MNIST's files."""

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files."""

_SPELLINGS = {
    idx.IMAGES: ("{}-images-idx3-ubyte", "{}-images.idx3-ubyte"),
    idx.LABELS: ("{}-labels-idx1-ubyte", "{}-labels.idx1-ubyte"),
}


def load_mnist(split: Split) -> Dataset:
    """MNIST from the package: (N, 1, 28, 28) with N = 55,000, 5,000 or 10,000.

    Raises:
        DataError: if a shipped file is missing or is not the published one.
    """
    images_name, labels_name = (f"{_part(split)}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    images = idx.parse(_shipped(images_name), idx.IMAGES, images_name)
    labels = idx.parse(_shipped(labels_name), idx.LABELS, labels_name)
    return _dataset("mnist", images, labels, DIGITS, split)


def load_fashion_mnist(split: Split) -> Dataset:
    """Fashion-MNIST from Debian's package.

    Raises:
        DataError: if the package is not installed.
    """
    if not is_idx_folder(FASHION_FOLDER):
        raise DataError(
            f"fashion-mnist is not in {FASHION_FOLDER}: install Debian's package dataset-fashion-mnist, "
            "or pass the path of a folder that holds its four IDX files"
        )
    images, labels = _read_pair(FASHION_FOLDER, _part(split))
    return _dataset("fashion-mnist", images, labels, GARMENTS, split)


def is_idx_folder(folder: Path) -> bool:
    """Whether a folder holds at least one file with a canonical name, plain or compressed."""
    return any(_find(folder, part, kind) for part in ("train", "t10k") for kind in _SPELLINGS)


def load_idx_folder(folder: Path, split: Split) -> Dataset:
    """Images and labels from IDX files with MNIST's names in `folder`, with or without `.gz`.

    The classes are named by their numbers, 0 up to the largest label in the folder. A folder without any file of labels
    is a data set without labels.

    Raises:
        DataError: if a file is missing, damaged or does not belong to its partner; names the file.
    """
    images, labels = _read_pair(folder, _part(split))
    found = (_find(folder, part, idx.LABELS) for part in ("train", "t10k"))
    highest = max((int(idx.read(path, idx.LABELS).max(initial=0)) for path in found if path), default=-1)
    return _dataset(str(folder), images, labels, tuple(str(label) for label in range(highest + 1)), split)


def _part(split: Split) -> str:
    return "t10k" if split == "test" else "train"


def _shipped(name: str) -> bytes:
    file = resources.files("carso").joinpath("assets", "mnist", name)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: MNIST ships with carso but cannot be read ({error}); reinstall carso") from error
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != MD5[name]:
        raise DataError(f"{file}: its MD5 is not the published {MD5[name]}; reinstall carso")
    return data


def _find(folder: Path, part: str, kind: int) -> Path | None:
    names = (spelling.format(part) + suffix for spelling in _SPELLINGS[kind] for suffix in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _require(folder: Path, part: str, kind: int) -> Path:
    path = _find(folder, part, kind)
    if path is None:
        names = " or ".join(spelling.format(part) for spelling in _SPELLINGS[kind])
        raise DataError(f"{folder}: there is no {names} (plain or .gz)")
    return path


def _read_pair(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    if not any(_find(folder, any_part, idx.LABELS) for any_part in ("train", "t10k")):
        return idx.read(_require(folder, part, idx.IMAGES), idx.IMAGES), None
    images_path, labels_path = (_require(folder, part, kind) for kind in (idx.IMAGES, idx.LABELS))
    images, labels = idx.read(images_path, idx.IMAGES), idx.read(labels_path, idx.LABELS)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images but {labels_path} {len(labels)} labels; "
            "they do not belong together"
        )
    return images, labels


def _dataset(
    name: str, images: NDArray[np.uint8], labels: NDArray[np.uint8] | None, classes: tuple[str, ...], split: Split
) -> Dataset:
    kept = _positions(split, len(images))
    numbers = None if labels is None else torch.from_numpy(labels[kept].astype(np.int64))
    return Dataset(name, from_bytes(images[kept, None]), numbers, classes)


def _positions(split: Split, count: int) -> slice:
    held_out = max(1, count // 12)
    return {"train": slice(count - held_out), "validation": slice(count - held_out, None), "test": slice(None)}[split]
