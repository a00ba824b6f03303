import errno
import os
from pathlib import Path

import pytest

from carso.errors import CarsoError, RunError, shown
from carso.storage.files import read_text, write_text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"caf\xe9", r"t\.txt: is not UTF-8 text"),
        (b"x" * 11, r"t\.txt: is longer than 10 characters"),
        (None, r"t\.txt: cannot be read: No such file"),
    ],
)
def test_text_that_cannot_be_read_is_named(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_text(tmp_path / "t.txt", 10)


def test_text_comes_back(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("café", encoding="utf-8")
    assert read_text(tmp_path / "t.txt", 4) == "café"


def test_messages_are_cut() -> None:
    assert str(CarsoError("x" * 500)) == "x" * 500
    assert str(CarsoError("x" * 501)) == "x" * 499 + "…"
    assert len(shown(["long"] * 1000)) == 60
    assert shown("short") == "'short'"


def test_what_is_written_is_made_safe_by_a_file_that_may_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows wants it, which makes no file safe that is open for reading alone."""
    fcntl = pytest.importorskip("fcntl")
    safe = os.fsync

    def strict(file: int) -> None:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        safe(file)

    monkeypatch.setattr(os, "fsync", strict)
    write_text(tmp_path / "t.txt", "x")
    assert read_text(tmp_path / "t.txt") == "x"
