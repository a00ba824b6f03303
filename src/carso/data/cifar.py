"""CIFAR-10 from its canonical `cifar-10-batches-py` folder.

Each batch is a pickled dictionary of `data`, bytes (n, 3072) in channel, row, column order, and `labels`. A pickle can
run any code, so only what rebuilds arrays and plain containers is let through. The last half of `data_batch_5`, 5,000
images, is held out as `validation`.

Krizhevsky: Learning multiple layers of features from tiny images (2009).
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from carso.data.dataset import Dataset, Split, from_bytes
from carso.data.reading import read_bytes
from carso.errors import DataError
from carso.progress import track

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FOLDER = "cifar-10-batches-py"

_TRAINING = [f"data_batch_{number}" for number in range(1, 6)]


def is_cifar_folder(folder: Path) -> bool:
    """Whether a folder, or its `cifar-10-batches-py`, holds a CIFAR-10 batch."""
    return any((_batches(folder) / name).is_file() for name in (*_TRAINING, "test_batch"))


def load_cifar10(folder: Path, split: Split) -> Dataset:
    """CIFAR-10: (N, 3, 32, 32) with N = 45,000, 5,000 or 10,000.

    Args:
        folder: `cifar-10-batches-py`, or the folder that holds it.
        split: `train`, `validation` or `test`.

    Raises:
        DataError: if a batch is missing, damaged, or holds anything but images and labels; names the file.
    """
    names = {"train": _TRAINING, "validation": _TRAINING[-1:], "test": ["test_batch"]}[split]
    batches = [_read_batch(_batches(folder) / name) for name in track(names, "reading CIFAR-10")]
    pixels, labels = zip(*batches, strict=True)
    half = len(pixels[-1]) // 2
    count = sum(map(len, pixels))
    kept = {"train": slice(count - half), "validation": slice(count - half, None), "test": slice(None)}[split]
    images = from_bytes(np.concatenate(pixels)[kept].reshape(-1, 3, 32, 32))
    return Dataset("cifar-10", images, torch.from_numpy(np.concatenate(labels)[kept]), CLASSES)


def _batches(folder: Path) -> Path:
    return folder / FOLDER if (folder / FOLDER).is_dir() else folder


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    batch = _unpickle(read_bytes(path), str(path))
    if not (isinstance(batch, dict) and {b"data", b"labels"} <= batch.keys()):
        raise DataError(f"{path}: is not a CIFAR-10 batch, a dictionary of data and labels")
    pixels, labels = batch[b"data"], batch[b"labels"]
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[1:] == (3072,)):
        raise DataError(f"{path}: data must be bytes of shape (n, 3072)")
    if not (isinstance(labels, list) and all(isinstance(label, int) for label in labels)):
        raise DataError(f"{path}: labels must be a list of whole numbers")
    if len(labels) != len(pixels):
        raise DataError(f"{path}: holds {len(pixels)} images but {len(labels)} labels")
    if not all(0 <= label < len(CLASSES) for label in labels):
        raise DataError(f"{path}: labels must lie in 0..{len(CLASSES) - 1}")
    return pixels, np.array(labels, dtype=np.int64)


def _unpickle(data: bytes, name: str) -> Any:
    try:
        return _ArraysOnly(io.BytesIO(data), encoding="bytes").load()
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    except Exception as error:  # a damaged pickle can fail in any way
        raise DataError(f"{name}: truncated or corrupt ({type(error).__name__}: {error}); fetch it again") from error


def _encode_latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise DataError(f"asks for the encoding {encoding!r}, which no CIFAR-10 batch needs")
    return text.encode("latin1")


_RECONSTRUCT = np.empty(0).__reduce__()[0]
_FROM_BUFFER: Any = np.empty(0).__reduce_ex__(5)[0]
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,
    ("numpy.core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy._core.numeric", "_frombuffer"): _FROM_BUFFER,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode_latin1,
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise DataError(f"asks to run {module}.{name}, which no CIFAR-10 batch needs; do not trust this file")
        return _ALLOWED[module, name]
