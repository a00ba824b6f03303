"""The tags of a picture: a TIFF file and an EXIF block are a directory of them, which says how the picture lies.

    header       II or MM, the order of bytes; 42 and where the directory is (4 bytes), or 43, 8 0 and where it is (8)
    directory    how many tags there are (2 or 8 bytes), then for each one its number (2), the type of its values (2),
                 how many there are (4 or 8), and the values or where they are (4 or 8)

Pillow leaves out a tag that it cannot read, such as that of the rotation, and only warns. What is done with warnings is
decided for a whole process, whatever its other threads do, so what was read is held here against what is named.

Source: TIFF 6.0, section 2, https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf; BigTIFF,
https://www.awaresystems.be/imaging/tiff/bigtiff.html.
"""

from __future__ import annotations

import struct
from collections.abc import Container
from io import BufferedIOBase
from typing import IO, Any

from carso.errors import DataError

TYPES = range(1, 14)
"""The types of values that TIFF knows; readers skip others."""


def check_tags(file: IO[bytes] | BufferedIOBase, read: Container[int]) -> None:
    """Hold the tags that a file's directory names against those that were `read`.

    Raises:
        DataError: if one of them could not be read.
        struct.error: if the directory ends early.
    """
    if missing := sorted(tag for tag in named(file) if tag not in read):
        raise DataError(f"is damaged (its tag {missing[0]} cannot be read); fetch or make it again")


def named(file: IO[bytes] | BufferedIOBase) -> set[int]:
    """The tags of a directory that have values of a known type."""
    file.seek(0)
    order = "<" if file.read(2) == b"II" else ">"

    def read(form: str) -> tuple[Any, ...]:
        return struct.unpack(order + form, file.read(struct.calcsize(order + form)))

    where, many, tag = ("4xQ", "Q", "HHQ8x") if read("H") == (43,) else ("L", "H", "HHL4x")
    file.seek(*read(where))
    entries = [read(tag) for _ in range(*read(many))]
    return {number for number, kind, values in entries if kind in TYPES and values}
