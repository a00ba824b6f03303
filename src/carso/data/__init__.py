"""Datasets by name or path, pairs of attacked and clean images, and single pictures."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import get_args

from carso.data.cifar import is_cifar_folder, load_cifar10
from carso.data.dataset import Dataset, Split
from carso.data.folder import load_folder
from carso.data.image import open_image, prepare, read_image
from carso.data.mnist import is_idx_folder, load_fashion_mnist, load_idx_folder, load_mnist
from carso.data.pairs import Pairs, load_pairs, save_pairs
from carso.errors import DataError

__all__ = [
    "NAMES",
    "Dataset",
    "Pairs",
    "Split",
    "load",
    "load_pairs",
    "open_image",
    "prepare",
    "read_image",
    "save_pairs",
]

_NAMED = {"mnist": load_mnist, "fashion-mnist": load_fashion_mnist}

NAMES = tuple(_NAMED)
"""The datasets that `load` knows by name."""


def load(source: str | Path, split: Split = "train") -> Dataset:
    """A dataset by name, or from a folder.

    Args:
        source: one of `NAMES`, or a folder: of IDX files named like MNIST's, `cifar-10-batches-py`, or of pictures.
        split: `train`, `validation` (held out from train for every choice) or `test`.

    Raises:
        DataError: if there is no such dataset or it cannot be used; says what is wrong with which file.
        ValueError: if `split` is none of the three.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {', '.join(get_args(Split))}, not {split!r}")
    if isinstance(source, str) and source in _NAMED:
        return _NAMED[source](split)
    folder = Path(source)
    if not folder.is_dir():
        raise DataError(_missing(source))
    if is_idx_folder(folder):
        return load_idx_folder(folder, split)
    return load_cifar10(folder, split) if is_cifar_folder(folder) else load_folder(folder, split)


def _missing(source: str | Path) -> str:
    if Path(source).is_file():
        pairs = "; pairs are read by load_pairs" if Path(source).suffix == ".npz" else ""
        return f"{source}: is a file, but a dataset is a name ({', '.join(NAMES)}) or a folder{pairs}"
    if str(source).lower().replace("-", "") == "cifar10":
        return f"{source}: does not ship with carso; pass the path of a cifar-10-batches-py folder"
    near = difflib.get_close_matches(str(source).lower(), NAMES)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{source}: neither a folder nor a dataset's name ({', '.join(NAMES)}){hint}"
