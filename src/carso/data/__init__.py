"""Datasets by name or path, pairs of attacked and clean images, and single pictures."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

from carso.data.cifar import CIFAR_10, CIFAR_100, cifar_of, load_cifar
from carso.data.dataset import Dataset
from carso.data.folder import load_folder
from carso.data.foreign import from_torch
from carso.data.idx_folder import load_idx, naming_of
from carso.data.image import open_image, prepare, read_image
from carso.data.layout import read_layout
from carso.data.mnist import load_fashion_mnist, load_mnist
from carso.data.pairs import Pairs, load_pairs, save_pairs
from carso.data.pictures import Fitting
from carso.data.published import CIFAR_10_RELEASE, CIFAR_100_RELEASE, obtain
from carso.data.splits import Split
from carso.errors import DataError, did_you_mean

__all__ = [
    "NAMES",
    "Dataset",
    "Pairs",
    "Split",
    "from_torch",
    "load",
    "load_pairs",
    "open_image",
    "prepare",
    "read_image",
    "save_pairs",
]

_NAMED: dict[str, Callable[[Split], Dataset]] = {
    "mnist": load_mnist,
    "fashion-mnist": load_fashion_mnist,
    CIFAR_10.name: lambda split: load_cifar(CIFAR_10, obtain(CIFAR_10_RELEASE), split),
    CIFAR_100.name: lambda split: load_cifar(CIFAR_100, obtain(CIFAR_100_RELEASE), split),
}
_ALSO = {"fashion": "fashion-mnist", "cifar-10": CIFAR_10.name, "cifar-100": CIFAR_100.name}

NAMES = tuple(_NAMED)
"""The datasets that `load` knows by name; `fashion`, `cifar-10` and `cifar-100` are understood, too."""


def load(
    source: str | Path,
    split: Split = "train",
    *,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    skip_bad: bool = False,
) -> Dataset:
    """A dataset by name, or from a folder. No image is in two splits.

    Args:
        source: one of `NAMES`, fetched once if it neither ships nor lies in the cache folder (`carso.data.published`);
            or a folder: of IDX files named like MNIST's or EMNIST's, `cifar-10-batches-py`,
            `cifar-100-python`, or of pictures.
        split: `train`, `validation` (held out from train for every choice) or `test`.
        size: (height, width) to which pictures of a folder are cut and resized, where they differ.
        channels: 1 or 3, to which they are converted.
        skip_bad: whether pictures that cannot be used are listed and left out, rather than refused.

    Raises:
        DataError: if there is no such dataset or it cannot be used; says what is wrong with which file.
        ValueError: if `split` is none of the three, `size` is no height and width, or `channels` is neither 1 nor 3.
    """
    if split not in get_args(Split):
        raise ValueError(f"split must be one of {', '.join(get_args(Split))}, not {split!r}")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be 1 or 3, not {channels!r}")
    if size is not None and not (len(size) == 2 and min(size) > 0):
        raise ValueError(f"size must be (height, width), not {size!r}")
    known = _known(source)
    if known is None:
        return load_folder(Path(source), split, Fitting(size, channels), skip_bad)
    if size or channels or skip_bad:
        raise DataError(f"{source}: size, channels and skip_bad are for folders of pictures, which this is not")
    return known(split)


def is_name(source: str) -> bool:
    """Whether `load` knows it by name."""
    return name_of(source) in _NAMED


def name_of(source: str) -> str:
    """What a dataset is called that `load` knows by several names; any other source as it is."""
    return _ALSO.get(source, source)


def is_same(one: str, other: str) -> bool:
    """Whether two names are of one dataset, or two paths of one folder; a name is never a folder's."""
    if is_name(one) or is_name(other):
        return name_of(one) == name_of(other)
    return os.path.abspath(one) == os.path.abspath(other)


def splits_of(source: str | Path) -> set[Split]:
    """The splits into which a dataset comes divided; of these, or of all its pictures, any others are held out here.

    Raises:
        DataError: if there is no such dataset, or a folder of pictures can be read in two ways.
    """
    return {"train", "test"} if _known(source) else {*read_layout(Path(source)).parts}


def check_source(source: str | Path) -> None:
    """Hold a source to be one that `load` can look into.

    Raises:
        DataError: if it is neither a dataset's name nor a folder; with the near names.
    """
    if not (isinstance(source, str) and is_name(source)) and not Path(source).is_dir():
        raise DataError(_missing(source))


def _known(source: str | Path) -> Callable[[Split], Dataset] | None:
    """What loads a dataset by name or of a published form; None if it is a folder of anything else."""
    check_source(source)
    if isinstance(source, str) and is_name(source):
        return _NAMED[name_of(source)]
    folder = Path(source)
    if naming := naming_of(folder):
        return lambda split: load_idx(naming, folder, split, str(folder))
    cifar = cifar_of(folder)
    return partial(load_cifar, cifar, folder) if cifar else None


def _missing(source: str | Path) -> str:
    if Path(source).is_file():
        pairs = "; pairs are read by load_pairs" if Path(source).suffix == ".npz" else ""
        return f"{source}: is a file, but a dataset is a name ({', '.join(NAMES)}) or a folder{pairs}"
    hint = did_you_mean(str(source).lower(), NAMES, most=3)
    return f"{source}: neither a folder nor a dataset's name ({', '.join(NAMES)}){hint}"
