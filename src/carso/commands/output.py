"""Standard output: all that a verb says is out before its status is, unless nothing takes it, in whatever encoding."""

from __future__ import annotations

import errno
import os
import sys
from io import TextIOWrapper
from typing import TextIO


def open_to_all() -> None:
    """Let standard output spell what its encoding lacks, as `\\u221e`; standard error always does."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def flush() -> None:
    """Have out what was said, where there is a standard output.

    Raises:
        OSError: if it takes nothing more.
    """
    if (output := _output()) is None:
        return
    try:
        output.flush()
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


def leave() -> None:
    """Say nothing more to a standard output that takes nothing."""
    if (output := _output()) is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())


def _output() -> TextIO | None:
    """None in a process that was started without one."""
    return sys.stdout
