"""Files from the network: whole and as published, or not at all.

What has come stands beside the file as `NAME.part` until its checksum is the published one; a download that was cut off
goes on from there (RFC 9110, section 14: Range).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from carso.data.reading import open_file
from carso.errors import DataError, RunError
from carso.progress import progress

TIMEOUT = 30.0
"""Seconds without a byte after which a server is given up."""

CHUNK, MOST = 2**18, 2**30
"""Bytes that are read at once, and the most of a file."""


def download(address: str, path: Path, md5: str) -> None:
    """Fetch a file; one that is there is only checked.

    Args:
        address: of the file, http, https or file.
        path: where it will be, in a folder that exists.
        md5: its published checksum, in hexadecimal.

    Raises:
        DataError: if the address cannot be reached, the transfer is cut off (what came is kept), or what came, or was
            there, is not the published file.
        RunError: if it cannot be written.
    """
    if path.is_file():
        if md5_of(path) != md5:
            raise DataError(f"{path}: is not the published file, its MD5 is not {md5}; remove it")
        return
    part = path.with_name(f"{path.name}.part")
    _receive(address, part)
    if (found := md5_of(part)) != md5:
        part.unlink()
        raise DataError(f"{address}: gives another file than was published (MD5 {found}, not {md5}); nothing is kept")
    part.replace(path)


def md5_of(path: Path) -> str:
    """The checksum of a file, in hexadecimal."""
    with open_file(path) as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _receive(address: str, part: Path) -> None:
    """Append what follows the bytes that are there, or all of it where the server knows no ranges."""
    held = part.stat().st_size if part.exists() else 0
    try:
        answer = urlopen(Request(address, headers={"Range": f"bytes={held}-"}), timeout=TIMEOUT)
    except HTTPError as error:
        if error.code == 416:  # nothing follows
            return
        raise DataError(f"{address}: answers {error.code} {error.reason}") from error
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise DataError(f"{address}: cannot be reached ({getattr(reason, 'strerror', None) or reason})") from error
    with answer:
        _keep(answer, address, part, held if answer.status == 206 else 0)


def _keep(answer: HTTPResponse, address: str, part: Path, held: int) -> None:
    follow = answer.headers.get("Content-Length")
    total = None if follow is None else held + int(follow)
    received = held
    try:
        with part.open("ab" if held else "wb") as file, progress(f"downloading {address}", total, held) as bar:
            for some in _chunks(answer, address, part):
                received += file.write(some)
                bar.advance(len(some))
    except OSError as error:
        raise RunError(f"cannot write {part}: {error.strerror or error}") from error
    if total is not None and received < total:
        raise DataError(_cut(address, part, f"after {received:,} of {total:,} bytes"))


def _chunks(answer: HTTPResponse, address: str, part: Path) -> Iterator[bytes]:
    for _ in range(MOST // CHUNK):
        try:
            some = answer.read(CHUNK)
        except (OSError, HTTPException) as error:
            raise DataError(_cut(address, part, f"({error or type(error).__name__})")) from error
        if not some:
            return
        yield some
    raise DataError(f"{address}: sends more than {MOST:,} bytes, which no published set has")


def _cut(address: str, part: Path, where: str) -> str:
    return f"{address}: was cut off {where}; what came is kept in {part}, and the same command goes on from there"
