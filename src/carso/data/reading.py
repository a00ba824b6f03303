"""Opening files of data, and what they may make us do.

A file's header promises how many bytes follow. Before room is made for them, the promise is held against what the file
holds: no set of images is packed more tightly than `TIGHTEST` bytes into one.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carso.errors import DataError, shortened

LARGEST = 2**31
"""The most bytes that are read of a set of images."""

SMALL, TIGHTEST = 2**25, 100
"""Bytes that any file may be unpacked to, and how many times its own size where that is more."""


def open_file(path: Path) -> io.BufferedReader:
    """The file, open for reading bytes.

    Raises:
        DataError: if it is missing or cannot be read; names it.
    """
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error


def size_of(file: io.BufferedReader) -> int:
    """The bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def read_bytes(path: Path, most: int = LARGEST) -> bytes:
    """All bytes of a file.

    Raises:
        DataError: if it is missing, cannot be read, or holds more than `most` bytes.
    """
    with open_file(path) as file:
        if size_of(file) > most:
            raise DataError(f"{path}: holds {size_of(file):,} bytes, more than the {most:,} of any such file")
        return file.read()


def check_promise(promised: int, held: int) -> None:
    """Hold the bytes that a header promises against those of the file.

    Raises:
        DataError: if they are more than `LARGEST`, or than a file of images of `held` bytes unpacks to.
    """
    if promised > LARGEST:
        raise DataError(f"its header promises {promised:,} bytes, more than the {LARGEST:,} that are read")
    if promised > max(SMALL, TIGHTEST * held):
        raise DataError(
            f"its header promises {promised:,} bytes out of {held:,}, over {TIGHTEST} times as many, as no images do; "
            "do not trust it, or store it unpacked"
        )


@contextmanager
def naming(name: object) -> Iterator[None]:
    """Begin the message of a DataError with the name of the file that it is about."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


@contextmanager
def decoding() -> Iterator[None]:
    """Make a DataError of whatever a decoder raises: damaged bytes make it fail in any way."""
    try:
        yield
    except DataError:
        raise
    except MemoryError as error:
        raise DataError("takes more memory than there is; free some, or make it smaller") from error
    except Exception as error:
        what = shortened(_told(error), 120)
        raise DataError(f"is damaged ({what}); fetch or make it again") from error


def _told(error: Exception) -> str:
    """What a decoder says: its own words where they are a sentence, else what kind of error it is, too."""
    if isinstance(error, OSError) and str(error):
        return str(error).partition(" (")[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
