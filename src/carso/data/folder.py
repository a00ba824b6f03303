"""Images from a folder of pictures, as `carso.data.layout` finds them in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from carso.data.dataset import Dataset, from_bytes
from carso.data.image import FORMATS, fitted, flatten, open_image
from carso.data.layout import read_layout
from carso.data.reading import LARGEST, naming
from carso.data.splits import Split
from carso.errors import DataError
from carso.progress import note, track
from carso.types import Images


def load_folder(
    folder: Path, split: Split, size: tuple[int, int] | None = None, channels: int | None = None
) -> Dataset:
    """Read the images of a split, in the order of their classes and names.

    What was decided and what was left out is said on standard error.

    Args:
        folder: of pictures, laid out as `carso.data.layout` says.
        split: `train`, `validation` or `test`.
        size: (height, width) to which every picture is cut about its centre and resized; None takes them as they are.
        channels: 1 for grey, 3 for colour; None takes them as they are.

    Returns:
        (N, 1, H, W) where all pictures are grey, (N, 3, H, W) where all are in colour; 16 bits become 8, and what is
        transparent becomes white.

    Raises:
        DataError: if the layout can be read in two ways, there are no images, one cannot be read, or they differ in
            size or channels and those are not given; names the file.
        ValueError: if the channels are neither 1 nor 3.
    """
    layout = read_layout(folder)
    for line in layout.notes():
        note(f"{folder}: {line}")
    pictures = layout.pictures(split)
    labels = [layout.classes.index(name) for _, name in pictures if name is not None]
    images = _read(folder, [path for path, _ in pictures], size, channels)
    return Dataset(str(folder), images, torch.tensor(labels) if labels else None, layout.classes if labels else ())


def _read(folder: Path, paths: Sequence[Path], size: tuple[int, int] | None, channels: int | None) -> Images:
    first = _pixels(paths[0], size, channels)
    if len(paths) * first.size > LARGEST:
        raise DataError(f"{folder}: {len(paths)} pictures {_kind(first)} are more than are read; pass a smaller size")
    pixels = np.empty((len(paths), *first.shape), np.uint8)
    for at, path in enumerate(track(paths, "reading images")):
        image = _pixels(path, size, channels)
        if image.shape != first.shape:
            raise DataError(
                f"{path}: is {_kind(image)}, but {paths[0].name} is {_kind(first)}; pass size=(height, width) and "
                f"channels=1 or 3 to make them alike; there are {_survey(paths, size, channels)}"
            )
        pixels[at] = image
    return from_bytes(pixels)


def _pixels(path: Path, size: tuple[int, int] | None, channels: int | None) -> NDArray[np.uint8]:
    with naming(path):
        picture = flatten(open_image(path, tuple(FORMATS)))
    if size or channels:
        picture = fitted(picture, channels or len(picture.getbands()), size or (picture.height, picture.width))
    levels = np.asarray(picture)
    return levels.reshape(*levels.shape[:2], -1).transpose(2, 0, 1)


def _survey(paths: Sequence[Path], size: tuple[int, int] | None, channels: int | None) -> str:
    """How many pictures there are of each kind, the commonest first."""
    kinds = Counter(_kind(_pixels(path, size, channels)) for path in track(paths, "looking at images"))
    listed = [f"{count} {kind}" for kind, count in kinds.most_common(4)]
    rest = kinds.total() - sum(count for _, count in kinds.most_common(4))
    return "; ".join([*listed, f"{rest} of other kinds"] if rest else listed)


def _kind(pixels: NDArray[np.uint8]) -> str:
    channels, height, width = pixels.shape
    return f"{'grey' if channels == 1 else 'in colour'}, {width} x {height} pixels"
