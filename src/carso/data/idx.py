"""IDX files: MNIST's format, plain or compressed with gzip.

Two zero bytes, a type (8: unsigned bytes), the number of dimensions d, then d big-endian 32-bit sizes and the values.
"""

from __future__ import annotations

import gzip
import io
import math
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from carso.data.reading import LARGEST, check_promise, naming, open_file, size_of
from carso.errors import DataError

IMAGES, LABELS = 3, 1
"""The number of dimensions of a file of images (count, rows, columns) and of labels (count)."""

_KINDS = {IMAGES: "images", LABELS: "labels"}


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes with `dimensions` dimensions.

    Raises:
        DataError: if it is missing, unreadable, corrupt, truncated, too long or of another kind; names the file.
    """
    with open_file(path) as file, naming(path):
        return _read(file, size_of(file), dimensions)


def parse(data: bytes, dimensions: int, name: str) -> NDArray[np.uint8]:
    """The array in the bytes of an IDX file; `name` is what errors call it."""
    with naming(name):
        return _read(io.BytesIO(data), len(data), dimensions)


def _read(file: io.BufferedIOBase, held: int, dimensions: int) -> NDArray[np.uint8]:
    """The array in a file of `held` bytes."""
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    try:
        return _values(gzip.GzipFile(fileobj=file) if packed else file, held, dimensions)
    except EOFError:
        raise DataError("truncated, its gzip stream ends early; fetch it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"corrupt gzip ({error}); fetch it again") from error


def _values(stream: io.BufferedIOBase, held: int, dimensions: int) -> NDArray[np.uint8]:
    shape = _shape(stream, dimensions)
    expected, promised = math.prod(shape), f"its header promises {' x '.join(map(str, shape))} values"
    if expected > LARGEST:
        raise DataError(f"{promised}, more than the {LARGEST} that are read; its header is likely corrupt")
    if isinstance(stream, gzip.GzipFile):
        check_promise(expected, held)
    else:
        _check_length(held - stream.tell(), expected, promised)
    values = stream.read(expected + 1)
    _check_length(len(values), expected, promised)
    return np.frombuffer(values, np.uint8).reshape(shape)


def _shape(stream: io.BufferedIOBase, dimensions: int) -> tuple[int, ...]:
    _check_magic(stream.read(4), dimensions)
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataError("truncated within its header; fetch it again")
    return tuple(int(size) for size in np.frombuffer(header, ">u4"))


def _check_length(follow: int, expected: int, promised: str) -> None:
    if follow < expected:
        raise DataError(f"truncated, {promised} but {follow} follow; fetch it again")
    if follow > expected:
        raise DataError(f"{promised} but more bytes follow; it is corrupt or its header is wrong")


def _check_magic(magic: bytes, dimensions: int) -> None:
    expected = bytes((0, 0, 8, dimensions))
    if len(magic) < 4:
        raise DataError("truncated within its header; fetch it again")
    if magic != expected:
        kinds = {bytes((0, 0, 8, d)): kind for d, kind in _KINDS.items()}
        found = f"a file of {kinds[magic]}" if magic in kinds else "not an IDX file of unsigned bytes"
        raise DataError(
            f"wrong magic number 0x{magic.hex()}, expected 0x{expected.hex()} ({_KINDS[dimensions]}); it is {found}"
        )
