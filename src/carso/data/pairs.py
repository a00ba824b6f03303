"""Ready-made (attacked, clean) pairs of images in an `.npz`, to train a purifier without attacking anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carso.data.dataset import check_images, check_tensors, from_bytes
from carso.data.npz import read_arrays
from carso.data.reading import naming, open_file
from carso.errors import DataError
from carso.storage.files import write_aside


@dataclass(frozen=True, eq=False)
class Pairs:
    """Attacked images beside the clean ones that they came from.

    Attributes:
        name: what messages call it.
        attacked: float32 (N, C, H, W) in [0, 1].
        clean: the same shape.
        labels: int64 (N,), or None.

    Raises:
        DataError: if the images are anything else, or do not match.
    """

    name: str
    attacked: Tensor
    clean: Tensor
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        check_tensors(self.name, attacked=self.attacked, clean=self.clean, labels=self.labels)
        check_images(self.attacked, f"{self.name}: attacked")
        check_images(self.clean, f"{self.name}: clean")
        if self.attacked.shape != self.clean.shape:
            raise DataError(
                f"{self.name}: attacked {tuple(self.attacked.shape)} and clean {tuple(self.clean.shape)} "
                "must have the same shape"
            )
        if self.labels is not None and self.labels.shape != (len(self),):
            raise DataError(f"{self.name}: labels must have the shape ({len(self)},), not {tuple(self.labels.shape)}")

    def __len__(self) -> int:
        return len(self.clean)


def load_pairs(path: str | Path) -> Pairs:
    """Read `attacked`, `clean` and, if there, `labels` from an `.npz`.

    Images are bytes, or floats in [0, 1], of shape (N, C, H, W); labels are whole numbers of shape (N,).

    Raises:
        DataError: if the file or one of its arrays cannot be used; names the file and the key.
    """
    with open_file(Path(path)) as file, naming(path):
        arrays = read_arrays(file, ("attacked", "clean"), ("labels",))
        attacked, clean = (_images(arrays[key], key) for key in ("attacked", "clean"))
        labels = _labels(arrays["labels"]) if "labels" in arrays else None
    return Pairs(str(path), attacked, clean, labels)


def save_pairs(path: str | Path, attacked: Tensor, clean: Tensor, labels: Tensor | None = None) -> None:
    """Write pairs for `load_pairs`, without loss; a file that was there before is kept until the new one is whole.

    Raises:
        DataError: if the pairs do not match or are not images in [0, 1].
        RunError: if they cannot be written.
    """
    pairs = Pairs(str(path), attacked, clean, labels)
    arrays: dict[str, Any] = {"attacked": _numpy(pairs.attacked), "clean": _numpy(pairs.clean)}
    if pairs.labels is not None:
        arrays["labels"] = _numpy(pairs.labels)

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            np.savez_compressed(file, **arrays)

    write_aside(Path(path), write)


def _numpy(values: Tensor) -> NDArray[np.generic]:
    array: NDArray[np.generic] = values.detach().cpu().numpy()
    return array


def _images(array: NDArray[np.generic], key: str) -> Tensor:
    if array.dtype == np.uint8:
        return from_bytes(array.astype(np.uint8, copy=False))
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{key} must be bytes, or floats in [0, 1], not {array.dtype}")
    with np.errstate(over="ignore"):
        return torch.from_numpy(array.astype(np.float32))


def _labels(array: NDArray[np.generic]) -> Tensor:
    if not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"labels must be whole numbers, not {array.dtype}")
    return torch.from_numpy(array.astype(np.int64))
