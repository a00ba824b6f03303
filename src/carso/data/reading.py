"""Opening a file of data, or saying which one could not be opened and why."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from carso.errors import DataError


def open_file(path: Path) -> BinaryIO:
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


def read_bytes(path: Path) -> bytes:
    """All bytes of a file; raises what `open_file` raises."""
    with open_file(path) as file:
        return file.read()
