import errno
import os
import stat
import sys
from pathlib import Path

import pytest

from carso.errors import CarsoError, RunError, shown
from carso.storage.files import BEGINNINGS, check_writable, read_text, write_text


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


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_link_stays_one_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    link, target = tmp_path / "link.txt", tmp_path / "far" / "t.txt"
    link.symlink_to(target)
    for text in ("new", "newer"):
        write_text(link, text)
        assert link.is_symlink()
        assert target.read_text() == text
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["far", "link.txt", "t.txt"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in a folder")
def test_what_can_be_no_file_stays_what_it_is(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for found, said in ((pipe, "no file but a device or a pipe"), (tmp_path, "a folder; name a file")):
        before = mode(found)
        for write in (check_writable, lambda path: write_text(path, "x")):
            with pytest.raises(RunError, match=rf"^cannot write .*: it is .*{said}"):
                write(found)
        assert mode(found) == before
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.skipif(sys.platform == "win32", reason="no modes")
def test_a_new_file_is_as_the_umask_says_and_a_replaced_one_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    before = os.umask(0o077)
    try:
        write_text(path, "x")
        assert mode(path) == 0o600
        os.umask(0o002)
        write_text(tmp_path / "other.txt", "x")
        assert mode(tmp_path / "other.txt") == 0o664
        write_text(path, "y")
        assert mode(path) == 0o600
        path.chmod(0o640)
        write_text(path, "z")
        assert (mode(path), path.read_text()) == (0o640, "z")
    finally:
        os.umask(before)


@pytest.mark.parametrize("kind", BEGINNINGS)
def test_a_file_without_an_ending_is_known_by_its_beginning(kind: str, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_bytes(BEGINNINGS[kind] + b" and so on")
    theirs.write_text("precious")
    check_writable(ours, kind)
    check_writable(tmp_path / "new", kind)
    with pytest.raises(RunError, match=f"theirs exists and is no \\{kind} file"):
        check_writable(theirs, kind)
