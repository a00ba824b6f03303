"""Arrays out of an `.npz`, a zip of NPY files; their headers are checked before room is made for their values."""

from __future__ import annotations

import io
import math
import warnings
import zipfile
from collections.abc import Callable, Sequence
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from carso.data.reading import check_promise, decoding, naming, size_of
from carso.errors import VALUE, DataError, shortened

_HEADERS: dict[tuple[int, int], Callable[[IO[bytes]], tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}


def read_arrays(
    file: io.BufferedReader, required: Sequence[str], optional: Sequence[str] = ()
) -> dict[str, NDArray[np.generic]]:
    """The arrays with these names.

    Raises:
        DataError: if the file is no `.npz`, lacks a required array, or holds a damaged one, one of Python objects, or
            one that unpacks to more than images do; the message does not name the file.
    """
    with _opened(file) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist()}
        for key in required:
            if key not in names:
                found = ", ".join(shortened(name, VALUE) for name in sorted(names)[:9])
                raise DataError(f"has no key {key!r}, only {found or 'nothing'}")
        return {key: _array(archive, key, size_of(file)) for key in (*required, *optional) if key in names}


def _opened(file: io.BufferedReader) -> zipfile.ZipFile:
    """The archive, once every member is named alike in its own header, so that none is lost unseen."""
    if file.read(len(npy.MAGIC_PREFIX)) == npy.MAGIC_PREFIX:
        raise DataError("holds a single array; pairs are an .npz with the keys attacked and clean")
    file.seek(0)
    try:
        with decoding():
            archive = zipfile.ZipFile(file)
            for entry in archive.infolist():
                archive.open(entry).close()
            return archive
    except DataError as error:
        raise DataError(f"is not a readable .npz: {error}") from error


def _array(archive: zipfile.ZipFile, key: str, held: int) -> NDArray[np.generic]:
    with naming(key), decoding(), warnings.catch_warnings():
        warnings.simplefilter("error")
        entry = archive.getinfo(f"{key}.npy")
        check_promise(entry.file_size, held)
        _check_header(archive, entry)
        with archive.open(entry) as stream:
            array: NDArray[np.generic] = npy.read_array(stream, allow_pickle=False)
            return array


def _check_header(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    with archive.open(entry) as stream:
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise DataError(f"is in version {version} of the NPY format, which numbers do not need")
        shape, _, dtype = _HEADERS[version](stream)
        follow = entry.file_size - stream.tell()
    if dtype.hasobject:
        raise DataError("holds Python objects, not numbers")
    if (promised := math.prod(shape) * dtype.itemsize) != follow:
        raise DataError(f"promises {promised:,} bytes of values, but {follow:,} follow its header")
