import contextlib
import gzip
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from carso.data import idx
from carso.errors import DataError


def packed(content: bytes) -> bytes:
    """Gzip without the time of day, so that test names are the same in every process."""
    return gzip.compress(content, mtime=0)


def idx_bytes(values: np.ndarray) -> bytes:
    return bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@given(arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, min_side=0, max_side=4)), st.booleans())
def test_reads_back_what_was_written(values: np.ndarray, compressed: bool) -> None:
    data = idx_bytes(values)
    read = idx.parse(packed(data) if compressed else data, idx.IMAGES, "file")
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("name", ["images", "images.gz"])
def test_reads_a_file_whatever_its_name_says(write_idx: Callable[..., Path], name: str) -> None:
    path = write_idx(name, PIXELS)
    np.testing.assert_array_equal(idx.read(path.rename(path.with_name("other")), idx.IMAGES), PIXELS)


def test_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no such file"):
        idx.read(tmp_path / "nowhere", idx.IMAGES)


def test_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read"):
        idx.read(tmp_path, idx.IMAGES)


GOOD = idx_bytes(PIXELS)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "truncated within its header"),
        (GOOD[:3], "truncated within its header"),
        (GOOD[:15], "truncated within its header"),
        (GOOD[:-1], "promises 2 x 3 x 4 values but 23 follow"),
        (GOOD + b"\0", "promises 2 x 3 x 4 values but more bytes follow"),
        (
            idx_bytes(PIXELS[0, 0]),
            r"wrong magic number 0x00000801, expected 0x00000803 \(images\); it is a file of labels",
        ),
        (b"\x89PNG" + GOOD[4:], "wrong magic number 0x89504e47.*not an IDX file"),
        (GOOD[:4] + struct.pack(">3I", 2**31, 2**31, 2**31), "likely corrupt"),
        (packed(GOOD)[:-9], "truncated"),
        (packed(GOOD[:-1]), "but 23 follow"),
        (packed(GOOD) + b"junk", "corrupt gzip"),
        (packed(GOOD)[:10] + b"\xff" * 20, "corrupt gzip"),
        (packed(GOOD)[:-8] + b"\0" * 8, "corrupt gzip"),
    ],
)
def test_says_what_is_wrong_with_which_file(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"^digits.gz: .*{message}"):
        idx.parse(data, idx.IMAGES, "digits.gz")


@given(st.sampled_from([GOOD, packed(GOOD)]), st.integers(0, 39), st.binary(max_size=4))
def test_damaged_bytes_are_read_or_refused(data: bytes, at: int, damage: bytes) -> None:
    with contextlib.suppress(DataError):
        assert idx.parse(data[:at] + damage + data[at + len(damage) :], idx.IMAGES, "file").ndim == idx.IMAGES


def header(*shape: int) -> bytes:
    return bytes((0, 0, 8, len(shape))) + struct.pack(f">{len(shape)}I", *shape)


def zeros(count: int) -> bytes:
    """A gzip member of so many zeros, about a thousandth of them long."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(count // 2**20)) + packer.flush()


def peak(path: Path, message: str) -> int:
    """The most bytes that refusing a file takes."""
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        idx.read(path, idx.IMAGES)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.gz"
    bomb.write_bytes(packed(header(2**16, 64, 64)) + zeros(2**28))
    message = "bomb.gz: its header promises 268,435,456 bytes out of [0-9,]+, over 100 times as many, as no images do"
    assert peak(bomb, message) < 2**20


def test_a_member_is_unpacked_no_further_than_its_header_promises(tmp_path: Path) -> None:
    (tmp_path / "long.gz").write_bytes(packed(header(1, 2, 2)) + zeros(2**28))
    assert peak(tmp_path / "long.gz", "promises 1 x 2 x 2 values but more bytes follow") < 2**20


@pytest.mark.parametrize("shape", [(2, 3, 4), (2**10, 2**10, 2**10)])
def test_a_file_with_holes_is_not_read(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(header(*shape))
        file.truncate(20 * 2**30)
    assert peak(path, f"sparse: its header promises {' x '.join(map(str, shape))} values but more bytes follow") < 2**20


def test_blank_images_are_no_bomb() -> None:
    blank = np.zeros((10_000, 28, 28), np.uint8)
    np.testing.assert_array_equal(idx.parse(packed(idx_bytes(blank)), idx.IMAGES, "blank"), blank)
