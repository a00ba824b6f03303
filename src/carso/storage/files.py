"""Reading files within bounds; writing them so that a crash, a full disk or an interruption leaves the old one whole.

What is being written stands beside the file as `.NAME.RANDOM.aside` until it is whole; `sweep` removes what a process
that was killed left of it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path

from carso.errors import RunError

ASIDE = ".aside"
"""How the name of a temporary file ends."""

BEGINNINGS = {".html": b"<!doctype html>", ".svg": b"<svg", ".npz": b"PK", ".onnx": b"\x08"}
"""How files of each ending begin."""

TEXT = 2**24
"""The most characters of a text file that is read."""


def read_text(path: Path, most: int = TEXT) -> str:
    """The UTF-8 text of a file.

    Raises:
        RunError: if it cannot be read, is no such text, or is longer than `most` characters.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(most + 1)
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: is not UTF-8 text") from error
    if len(text) > most:
        raise RunError(f"{path}: is longer than {most:,} characters, which no such file is")
    return text


def check_writable(path: Path, kind: str | None = None) -> None:
    """Find out before the work, rather than after it, that `path` cannot become a file.

    Args:
        path: the file.
        kind: how files of what is to be written end, one of `BEGINNINGS`; a file that is there and ends otherwise, or
            without any ending begins otherwise, is somebody's. By default whatever is there is replaced.

    Raises:
        RunError: if it is a folder, a device, a pipe or a file of another kind, or its folder cannot be made or
            written.
    """
    target = _target(path)
    if kind is not None and path.is_file() and not _is_of(path, kind):
        raise RunError(f"{path} exists and is no {kind} file; choose another path, or remove it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=target.parent):
            pass
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def _is_of(path: Path, kind: str) -> bool:
    if path.suffix:
        return path.suffix.lower() == kind
    with path.open("rb") as file:
        return file.read(len(BEGINNINGS[kind])).lower() == BEGINNINGS[kind].lower()


def write_aside(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it into place.

    A link stays one, and what it leads to is replaced. The file has the mode of the one that was there, a new one that
    of any new file.

    Raises:
        RunError: if the disk is full, the folder cannot be written, or a folder, a device or a pipe is at `path`; what
            was there still is.
    """
    target = _target(path)
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}{ASIDE}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside.touch(exist_ok=False)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error
    try:
        new = stat.S_IMODE(aside.stat().st_mode)
        write(aside)
        with aside.open("r+b") as file:
            os.fsync(file.fileno())
        aside.chmod(new)
        move(aside, target)
    except OSError as error:
        raise RunError(f"cannot write {path}: {error.strerror or error}; what was there is untouched") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def move(source: Path, path: Path) -> None:
    """Rename a file into the place of `path`, or of what it links to; the mode of the one that was there is kept.

    Raises:
        OSError: if it cannot be done.
        RunError: if what is there can be no file.
    """
    target = _target(path)
    if target.exists():
        source.chmod(stat.S_IMODE(target.stat().st_mode))
    source.replace(target)


def _target(path: Path) -> Path:
    """The file that a path leads to, there or not.

    Raises:
        RunError: if what is there can be no file.
    """
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise RunError(f"cannot write {path}: it is a folder; name a file")
    if os.path.exists(target) and not os.path.isfile(target):
        raise RunError(f"cannot write {path}: it is no file but a device or a pipe; name a file")
    return Path(target)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, aside first."""
    write_aside(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def says(path: Path, text: str) -> bool:
    """Whether a run left a file in its folder that says exactly that.

    Raises:
        RunError: if it cannot be read.
    """
    if not path.exists():
        return False
    try:
        return read_text(path) == text
    except RunError as error:
        raise RunError(f"{error}; choose another --out") from error


def settle(path: Path, text: str, refusal: str) -> None:
    """Write what decides a run into its folder, where nothing else is settled there.

    Raises:
        RunError: with the refusal, if something else is.
    """
    if path.exists() and not says(path, text):
        raise RunError(refusal)
    write_text(path, text)


def copy(source: Path, target: Path) -> None:
    """Copy a file, aside first."""
    write_aside(target, lambda aside: shutil.copyfile(source, aside))


def sweep(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; only for whoever knows that nobody writes there now."""
    for left in folder.glob(f".*{ASIDE}"):
        with contextlib.suppress(OSError):
            left.unlink()
