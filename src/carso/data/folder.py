"""Images from a folder of PNG and JPEG files.

A folder whose images lie in subfolders is labelled, a class per subfolder in the order of their names; a flat one is
not. Either kind may lie below `train`, `test` and, if wanted, `validation`. In a folder without these, and in a `train`
without a `validation` beside it, every twelfth image is held out as `validation`; without these, `test` is every image,
so that such a folder serves to train on or to be tested on, not both.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray

from carso.data.dataset import Dataset, Split, from_bytes
from carso.data.image import flatten, open_image
from carso.errors import DataError
from carso.progress import track
from carso.types import Images

SUFFIXES = (".png", ".jpg", ".jpeg")
HELD_OUT = 12
"""One image in so many is held out."""


def load_folder(folder: Path, split: Split) -> Dataset:
    """Read the images of a split, in the order of their classes and names.

    Returns:
        (N, 1, H, W) where all pictures are grey, (N, 3, H, W) where all are in colour; 16 bits become 8, and what is
        transparent becomes white.

    Raises:
        DataError: if there are no images, one cannot be read, or sizes or modes differ; names the file.
    """
    root, divided = _root(folder, split)
    classes = _classes(folder)
    files = [(path, label) for label, name in enumerate(classes) for path in _pictures(root / name)]
    files = files if classes else [(path, 0) for path in _pictures(root)]
    if divided:
        held_out = split == "validation"
        files = [file for at, file in enumerate(files, 1) if (at % HELD_OUT == 0) == held_out]
    if not files:
        raise DataError(f"{root}: holds no PNG or JPEG pictures for the split {split!r}")
    labels = torch.tensor([label for _, label in files]) if classes else None
    return Dataset(str(folder), _read([path for path, _ in files]), labels, classes)


def _root(folder: Path, split: Split) -> tuple[Path, bool]:
    """Where the images of a split lie, and whether it shares them with the images held out."""
    splits = _splits(folder)
    if not splits:
        return folder, split != "test"
    if split in splits:
        return folder / split, split == "train" and "validation" not in splits
    if split == "validation" and "train" in splits:
        return folder / "train", True
    raise DataError(f"{folder}: has no subfolder {split!r}, only {', '.join(splits)}")


def _splits(folder: Path) -> list[str]:
    """The splits that a folder is divided into; none if its subfolders are anything else, such as classes."""
    names = _subfolders(folder)
    return names if set(names) <= set(get_args(Split)) else []


def _classes(folder: Path) -> tuple[str, ...]:
    """The classes of all splits together, so that a label means the same in each."""
    roots = [folder / split for split in _splits(folder)] or [folder]
    classes = sorted({name for root in roots for name in _subfolders(root)})
    for root in roots if classes else []:
        if stray := _pictures(root):
            raise DataError(f"{stray[0]}: lies beside the folders of classes; move it into one of them")
    return tuple(classes)


def _subfolders(folder: Path) -> list[str]:
    return sorted(path.name for path in _entries(folder) if path.is_dir())


def _pictures(folder: Path) -> list[Path]:
    entries = _entries(folder) if folder.is_dir() else []
    return sorted(path for path in entries if path.suffix.lower() in SUFFIXES and path.is_file())


def _entries(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror or error})") from error


def _read(paths: Sequence[Path]) -> Images:
    first = _pixels(paths[0])
    pixels = np.empty((len(paths), *first.shape), np.uint8)
    for at, path in enumerate(track(paths, "reading images")):
        image = _pixels(path)
        if image.shape != first.shape:
            raise DataError(f"{path}: is {_kind(image)}, but {paths[0].name} is {_kind(first)}; make them all alike")
        pixels[at] = image
    return from_bytes(pixels)


def _pixels(path: Path) -> NDArray[np.uint8]:
    try:
        levels = np.asarray(flatten(open_image(path)))
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    return levels.reshape(*levels.shape[:2], -1).transpose(2, 0, 1)


def _kind(pixels: NDArray[np.uint8]) -> str:
    channels, height, width = pixels.shape
    return f"{'grey' if channels == 1 else 'in colour'}, {width} x {height} pixels"
