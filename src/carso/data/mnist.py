"""MNIST, shipped with the package, and Fashion-MNIST, from the cache folder, from Debian's package, or fetched.

Of the 60,000 training images the last 5,000 are held out as `validation`.

LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998).
Xiao, Rasul, Vollgraf: Fashion-MNIST (2017).
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from importlib import resources
from pathlib import Path

from carso.data import idx, idx_folder
from carso.data.dataset import Dataset
from carso.data.published import FASHION_RELEASE, obtain
from carso.data.splits import Split
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


def load_mnist(split: Split) -> Dataset:
    """MNIST from the package: (N, 1, 28, 28) with N = 55,000, 5,000 or 10,000.

    Raises:
        DataError: if a shipped file is missing or is not the published one.
    """
    part = idx_folder.MNIST.part(split)
    images_name, labels_name = (f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
    images = idx.parse(_shipped(images_name), idx.IMAGES, images_name)
    labels = idx.parse(_shipped(labels_name), idx.LABELS, labels_name)
    return idx_folder.dataset("mnist", images, labels, DIGITS, split)


def load_fashion_mnist(split: Split) -> Dataset:
    """Fashion-MNIST: (N, 1, 28, 28) with N = 55,000, 5,000 or 10,000.

    Raises:
        DataError: if it is not there and cannot be fetched; says where to put its files.
    """
    folder = obtain(FASHION_RELEASE, FASHION_FOLDER)
    return idx_folder.load_idx(replace(idx_folder.MNIST, classes=GARMENTS), folder, split, FASHION_RELEASE.name)


def _shipped(name: str) -> bytes:
    file = resources.files("carso").joinpath("assets", "mnist", name)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: MNIST ships with carso but cannot be read ({error}); reinstall carso") from error
    if hashlib.md5(data, usedforsecurity=False).hexdigest() != MD5[name]:
        raise DataError(f"{file}: its MD5 is not the published {MD5[name]}; reinstall carso")
    return data
