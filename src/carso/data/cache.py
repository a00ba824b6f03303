"""The folder in which published sets, and pictures once they are decoded, are kept for the next time.

$CARSO_DATA,  else carso in   $XDG_CACHE_HOME or ~/.cache   ~/Library/Caches (macOS)   %LOCALAPPDATA% (Windows)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from carso.errors import RunError
from carso.progress import note
from carso.storage.claim import claim
from carso.storage.files import check_writable

DATA = "CARSO_DATA"
"""The environment's variable that names another folder."""

PAUSE = 0.2
"""Seconds between two looks at whether another process is done."""


def cache_folder() -> Path:
    """Where data are kept; it need not exist."""
    if given := os.environ.get(DATA):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "carso"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "carso"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carso"


@contextmanager
def filling(folder: Path, what: str) -> Iterator[None]:
    """Hold a folder of the cache to fill it, as soon as no other process does.

    Args:
        folder: made if missing.
        what: what is done there, as in "decoding pictures".

    Raises:
        RunError: if it cannot be written.
    """

    def wait(holder: str) -> None:
        note(f"{what}: {holder} is at it; waiting")
        time.sleep(PAUSE)

    try:
        check_writable(folder.parent / ".any")
    except RunError as error:
        raise RunError(f"{error}; {DATA} names another folder") from error
    with claim(folder, wait):
        yield
