"""Claiming a folder: two processes never write one run.

The claim is a lock of the operating system on `.claim` in the folder, which goes when its process does, however it
ends; the file's text says who holds it. Whoever gets the claim clears away what killed processes left half written.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from carso.errors import RunError
from carso.storage.files import sweep

NAME = ".claim"
DEEPEST = 4
"""How many folders below its own a run writes, at most."""

if sys.platform == "win32":
    import msvcrt

    FAR = 2**30
    """Beyond the text of a claim, which others must be able to read."""

    def _lock(file: TextIO) -> bool:
        os.lseek(file.fileno(), FAR, os.SEEK_SET)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True
else:
    import fcntl

    def _lock(file: TextIO) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def claim(folder: Path, wait: Callable[[str], object] | None = None) -> Iterator[None]:
    """Hold a folder, made if missing, for this process alone.

    Args:
        folder: to hold.
        wait: called, again and again, while another process holds it, with which and since when; None is refused.

    Raises:
        RunError: if another process holds it and nobody waits, or it cannot be written.
    """
    made = not os.path.exists(folder)  # says no of a name that no file can have, where Path.exists fails
    with _open(folder, wait) as file:
        _sign(file)
        _clear(folder)
        try:
            yield
        finally:
            _give_up(folder, made)


def _open(folder: Path, wait: Callable[[str], object] | None) -> TextIO:
    """The locked file; one that its last holder removed while we waited for it is no claim, so that we look again."""
    path = folder / NAME
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = path.open("a+", encoding="utf-8", errors="replace")
            free = _lock(file)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise RunError(f"cannot claim {folder}: {why}; choose another --out") from error
        if free and _is(file, path):
            return file
        with file:
            holder = None if free else _holder(file)
        if holder is not None:
            if wait is None:
                raise RunError(f"{folder} is in use by {holder}; wait for it, or choose another --out")
            wait(holder)


def _is(file: TextIO, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _holder(file: TextIO) -> str:
    file.seek(0)
    return "".join(letter for letter in file.read(200) if letter.isprintable()) or "another process"


def _sign(file: TextIO) -> None:
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}")
    file.flush()


def _clear(folder: Path) -> None:
    """Sweep a folder and those below it, but for links and what another process may hold."""
    for place, inner, _ in os.walk(folder):
        sweep(Path(place))
        deep = len(Path(place).relative_to(folder).parts)
        inner[:] = [name for name in inner if deep < DEEPEST and not os.path.exists(os.path.join(place, name, NAME))]


def _give_up(folder: Path, made: bool) -> None:
    with contextlib.suppress(OSError):
        (folder / NAME).unlink()
        if made:
            folder.rmdir()
