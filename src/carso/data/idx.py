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

from carso.data.reading import read_bytes
from carso.errors import DataError

IMAGES, LABELS = 3, 1
"""The number of dimensions of a file of images (count, rows, columns) and of labels (count)."""

_KINDS = {IMAGES: "images", LABELS: "labels"}
_LARGEST = 2**31


def read(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes with `dimensions` dimensions.

    Raises:
        DataError: if it is missing, unreadable, corrupt, truncated, too long or of another kind; names the file.
    """
    return parse(read_bytes(path), dimensions, str(path))


def parse(data: bytes, dimensions: int, name: str) -> NDArray[np.uint8]:
    """The array in the bytes of an IDX file; `name` is what errors call it."""
    stream = io.BytesIO(data)
    try:
        return _parse(gzip.GzipFile(fileobj=stream) if data[:2] == b"\x1f\x8b" else stream, dimensions, name)
    except EOFError:
        raise DataError(f"{name}: truncated, its gzip stream ends early; fetch it again") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{name}: corrupt gzip ({error}); fetch it again") from error


def _parse(stream: io.BytesIO | gzip.GzipFile, dimensions: int, name: str) -> NDArray[np.uint8]:
    _check_magic(stream.read(4), dimensions, name)
    header = stream.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DataError(f"{name}: truncated within its header; fetch it again")
    shape = tuple(int(size) for size in np.frombuffer(header, ">u4"))
    promised = f"its header promises {' x '.join(map(str, shape))} values"
    expected = math.prod(shape)
    if expected > _LARGEST:
        raise DataError(f"{name}: {promised}, more than the {_LARGEST} that are read; its header is likely corrupt")
    values = stream.read(expected + 1)
    if len(values) < expected:
        raise DataError(f"{name}: truncated, {promised} but {len(values)} follow; fetch it again")
    if len(values) > expected:
        raise DataError(f"{name}: {promised} but more bytes follow; it is corrupt or its header is wrong")
    return np.frombuffer(values, np.uint8).reshape(shape)


def _check_magic(magic: bytes, dimensions: int, name: str) -> None:
    expected = bytes((0, 0, 8, dimensions))
    if len(magic) < 4:
        raise DataError(f"{name}: truncated within its header; fetch it again")
    if magic != expected:
        kinds = {bytes((0, 0, 8, d)): kind for d, kind in _KINDS.items()}
        found = f"a file of {kinds[magic]}" if magic in kinds else "not an IDX file of unsigned bytes"
        raise DataError(
            f"{name}: wrong magic number 0x{magic.hex()}, expected 0x{expected.hex()} ({_KINDS[dimensions]}); "
            f"it is {found}"
        )
