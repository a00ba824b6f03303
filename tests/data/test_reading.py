from pathlib import Path

import pytest

from carso.data import reading
from carso.errors import LONGEST, DataError


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (KeyError("x"), "file: is damaged (KeyError: 'x'); fetch or make it again"),
        (EOFError(), "file: is damaged (EOFError); fetch or make it again"),
        (
            OSError("image file is truncated (42 bytes not processed)"),
            "file: is damaged (image file is truncated); fetch or make it again",
        ),
        (MemoryError(), "file: takes more memory than there is; free some, or make it smaller"),
        (DataError("is odd"), "file: is odd"),
    ],
)
def test_whatever_a_decoder_raises_is_one_line_with_the_name(raised: Exception, message: str) -> None:
    with pytest.raises(DataError) as caught, reading.naming("file"), reading.decoding():
        raise raised
    assert str(caught.value) == message


def test_what_a_decoder_says_is_cut() -> None:
    with pytest.raises(DataError) as caught, reading.naming("file"), reading.decoding():
        raise ValueError("x" * 10_000)
    assert len(str(caught.value)) < 200
    assert len(str(DataError("y" * 10_000))) == LONGEST


def test_an_interruption_is_no_damage() -> None:
    with pytest.raises(KeyboardInterrupt), reading.decoding():
        raise KeyboardInterrupt


def test_a_promise_is_held_against_the_file() -> None:
    reading.check_promise(reading.SMALL, 1)
    reading.check_promise(reading.TIGHTEST * 2**20, 2**20)
    with pytest.raises(DataError, match="promises 104,857,601 bytes out of 1,048,576, over 100 times as many"):
        reading.check_promise(reading.TIGHTEST * 2**20 + 1, 2**20)
    with pytest.raises(DataError, match="promises 2,147,483,649 bytes, more than the 2,147,483,648 that are read"):
        reading.check_promise(reading.LARGEST + 1, reading.LARGEST)


def test_a_file_is_read_to_a_bound(tmp_path: Path) -> None:
    (tmp_path / "five").write_bytes(b"12345")
    assert reading.read_bytes(tmp_path / "five", 5) == b"12345"
    with pytest.raises(DataError, match="five: holds 5 bytes, more than the 4 of any such file"):
        reading.read_bytes(tmp_path / "five", 4)
