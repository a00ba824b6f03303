"""Folders of IDX files, images beside labels: MNIST's names, and EMNIST's.

    train-images-idx3-ubyte          train-labels-idx1-ubyte          t10k-images-idx3-ubyte ...
    emnist-NAME-train-images-...     emnist-NAME-train-labels-...     emnist-NAME-test-images-...

each plain or compressed, also with `.idx3-ubyte` at its end. Of the training images the last twelfth is held out as
`validation`. EMNIST stores its images transposed; here they are upright.

Cohen, Afshar, Tapson, van Schaik: EMNIST: an extension of MNIST to handwritten letters (2017).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase, ascii_uppercase, digits

import numpy as np
import torch
from numpy.typing import NDArray

from carso.data import idx
from carso.data.dataset import Dataset, from_bytes
from carso.data.splits import TURN, Split, end
from carso.errors import DataError

_SPELLINGS = {
    idx.IMAGES: ("{}-images-idx3-ubyte", "{}-images.idx3-ubyte"),
    idx.LABELS: ("{}-labels-idx1-ubyte", "{}-labels.idx1-ubyte"),
}


@dataclass(frozen=True)
class Naming:
    """How the files of a set are called, and what is in them.

    Attributes:
        train: how the names of the training files begin.
        test: how those of the test files begin.
        classes: the names of the labels; None where they are numbers.
        first: the label of the first class.
        transposed: whether rows and columns are exchanged.
    """

    train: str = "train"
    test: str = "t10k"
    classes: tuple[str, ...] | None = None
    first: int = 0
    transposed: bool = False

    def part(self, split: Split) -> str:
        """How the names of a split's files begin."""
        return self.test if split == "test" else self.train


def _emnist(name: str, classes: str, first: int = 0) -> Naming:
    return Naming(f"emnist-{name}-train", f"emnist-{name}-test", tuple(classes), first, transposed=True)


_MERGED = digits + ascii_uppercase + "abdefghnqrt"

MNIST = Naming()
EMNIST = (
    _emnist("byclass", digits + ascii_uppercase + ascii_lowercase),
    _emnist("bymerge", _MERGED),
    _emnist("balanced", _MERGED),
    _emnist("letters", ascii_uppercase, first=1),
    _emnist("digits", digits),
    _emnist("mnist", digits),
)


def naming_of(folder: Path) -> Naming | None:
    """The set of which a folder holds at least one file; None if there is none.

    Raises:
        DataError: if there are several.
    """
    found = [naming for naming in (MNIST, *EMNIST) if _holds(folder, naming)]
    if len(found) > 1:
        names = ", ".join(naming.train for naming in found)
        raise DataError(f"{folder}: holds the files of several sets ({names}); move one into a folder of its own")
    return found[0] if found else None


def load_idx(naming: Naming, folder: Path, split: Split, name: str) -> Dataset:
    """The images and labels of a split, (N, 1, H, W); a folder without any file of labels is a set without labels.

    Classes that have no names are called by their numbers, 0 up to the largest label in the folder.

    Raises:
        DataError: if a file is missing, damaged or does not belong to its partner; names the file.
    """
    images, labels = _read_pair(naming, folder, naming.part(split))
    return dataset(name, images, labels, naming.classes or _numbers(naming, folder), split)


def dataset(
    name: str, images: NDArray[np.uint8], labels: NDArray[np.uint8] | None, classes: tuple[str, ...], split: Split
) -> Dataset:
    """The images (N, H, W) that belong to a split, of those of its file."""
    count = len(images)
    kept = end(split, count, max(count > 1, count // TURN), name)
    numbers = None if labels is None else torch.from_numpy(labels[kept].astype(np.int64))
    return Dataset(name, from_bytes(images[kept, None]), numbers, () if labels is None else classes, mixed=True)


def _holds(folder: Path, naming: Naming) -> bool:
    return any(_find(folder, part, kind) for part in (naming.train, naming.test) for kind in _SPELLINGS)


def _find(folder: Path, part: str, kind: int) -> Path | None:
    names = (spelling.format(part) + suffix for spelling in _SPELLINGS[kind] for suffix in ("", ".gz"))
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _require(folder: Path, part: str, kind: int) -> Path:
    path = _find(folder, part, kind)
    if path is None:
        names = " or ".join(spelling.format(part) for spelling in _SPELLINGS[kind])
        raise DataError(f"{folder}: there is no {names} (plain or .gz)")
    return path


def _labels(naming: Naming, folder: Path) -> list[Path]:
    found = (_find(folder, part, idx.LABELS) for part in (naming.train, naming.test))
    return [path for path in found if path]


def _numbers(naming: Naming, folder: Path) -> tuple[str, ...]:
    highest = max((int(idx.read(path, idx.LABELS).max(initial=0)) for path in _labels(naming, folder)), default=-1)
    return tuple(str(label) for label in range(highest + 1))


def _read_pair(naming: Naming, folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    images_path = _require(folder, part, idx.IMAGES)
    labels_path = _require(folder, part, idx.LABELS) if _labels(naming, folder) else None
    stored = idx.read(images_path, idx.IMAGES)
    images = np.ascontiguousarray(stored.swapaxes(1, 2)) if naming.transposed else stored
    if labels_path is None:
        return images, None
    labels = idx.read(labels_path, idx.LABELS)
    if len(images) != len(labels):
        raise DataError(
            f"{images_path} holds {len(images)} images but {labels_path} {len(labels)} labels; "
            "they do not belong together"
        )
    if labels.min(initial=naming.first) < naming.first:
        raise DataError(f"{labels_path}: has the label {labels.min()}, but this set's begin at {naming.first}")
    return images, labels - np.uint8(naming.first)
