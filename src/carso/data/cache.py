"""The folder in which published sets, and pictures once they are decoded, are kept for the next time.

$CARSO_DATA,  else carso in   $XDG_CACHE_HOME or ~/.cache   ~/Library/Caches (macOS)   %LOCALAPPDATA% (Windows)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

DATA = "CARSO_DATA"
"""The environment's variable that names another folder."""


def cache_folder() -> Path:
    """Where data are kept; it need not exist."""
    if given := os.environ.get(DATA):
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "carso"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "carso"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "carso"
