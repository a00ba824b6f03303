"""The tags of a directory are those that it names, in either order of bytes and either size."""

from __future__ import annotations

import io
import struct

import pytest

from carso.data.tags import check_tags, named
from carso.errors import DataError

TAGS = [(0x0100, 3, 1, 5), (0x0112, 3, 1, 6), (0x9C9C, 77, 1, 0), (0x9C9D, 2, 0, 0)]
"""Number, type, how many values, the value: two that are read, one of an unknown type, one without values."""


def directory(order: str, big: bool) -> io.BytesIO:
    head = struct.pack(order + "HHHQ", 43, 8, 0, 20) if big else struct.pack(order + "HL", 42, 12)
    many, form = ("Q", "HHQQ") if big else ("H", "HHLL")
    before = ({"<": b"II", ">": b"MM"}[order] + head).ljust(20 if big else 12, b"\0")
    return io.BytesIO(
        before + struct.pack(order + many, len(TAGS)) + b"".join(struct.pack(order + form, *t) for t in TAGS)
    )


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_tags_of_a_directory(order: str, big: bool) -> None:
    assert named(directory(order, big)) == {0x0100, 0x0112}
    check_tags(directory(order, big), {0x0100, 0x0112, 0x0113})
    with pytest.raises(DataError, match="its tag 274 cannot be read"):
        check_tags(directory(order, big), {0x0100})


def test_a_directory_that_ends_early_is_no_directory() -> None:
    with pytest.raises(struct.error):
        named(io.BytesIO(directory("<", False).getvalue()[:-1]))
