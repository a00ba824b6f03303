"""Published sets by name: looked for in the cache folder, else fetched into it from their canonical address.

    CACHE/cifar-10-batches-py/     CACHE/cifar-100-python/     CACHE/fashion-mnist/

An address in $CARSO_MIRROR, where the published files lie side by side, stands for all canonical ones.

Krizhevsky: Learning multiple layers of features from tiny images (2009).
Xiao, Rasul, Vollgraf: Fashion-MNIST (2017).
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from carso.data.cache import DATA, cache_folder, filling
from carso.data.cifar import CIFAR_10, CIFAR_100, Cifar
from carso.data.download import download
from carso.data.reading import decoding, naming
from carso.errors import DataError
from carso.progress import track
from carso.storage.files import write_aside

MIRROR = "CARSO_MIRROR"
"""The environment's variable that names another address."""


@dataclass(frozen=True)
class Release:
    """A set as it was published.

    Attributes:
        name: what it is called.
        folder: its canonical folder.
        address: where its files lie.
        files: what is to be fetched, and its MD5.
        members: the files of the set where `files` is an archive of its folder; else they are `files`.
    """

    name: str
    folder: str
    address: str
    files: Mapping[str, str]
    members: tuple[str, ...] = ()

    def lies_in(self, folder: Path) -> bool:
        """Whether a folder holds the whole set, packed or unpacked."""
        spellings = ((name, name.removesuffix(".gz")) for name in self.members or self.files)
        return all(any((folder / name).is_file() for name in names) for names in spellings)


def _archived(cifar: Cifar, md5: str) -> Release:
    archive = cifar.folder.replace("-batches-py", "-python") + ".tar.gz"
    members = (*cifar.training, cifar.test)
    return Release(cifar.name, cifar.folder, "https://www.cs.toronto.edu/~kriz/", {archive: md5}, members)


CIFAR_10_RELEASE = _archived(CIFAR_10, "c58f30108f718f92721af3b95e74349a")
CIFAR_100_RELEASE = _archived(CIFAR_100, "eb9058c3a382ffc7106e4002c42a8d85")
FASHION_RELEASE = Release(
    "fashion-mnist",
    "fashion-mnist",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    {
        "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
        "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
        "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
    },
)


RELEASES = (CIFAR_10_RELEASE, CIFAR_100_RELEASE, FASHION_RELEASE)


def published_in(folder: str | Path | None, name: str) -> str | Path:
    """The set of that name as it lies in a folder, in its own one; the name alone, if it does not lie there."""
    release = next((each for each in RELEASES if each.name == name), None)
    if folder is None or release is None or not release.lies_in(Path(folder) / release.folder):
        return name
    return Path(folder) / release.folder


def obtain(release: Release, *elsewhere: Path) -> Path:
    """The folder of a set, fetched into the cache folder if it is neither there nor elsewhere.

    Two processes may ask at once: one fetches, the other waits.

    Raises:
        DataError: if it cannot be fetched as it was published; says where to put its files.
        RunError: if the cache folder cannot be written.
    """
    folder = cache_folder() / release.folder
    found = next((place for place in (folder, *elsewhere) if release.lies_in(place)), None)
    if found is None:
        with filling(folder, f"fetching {release.name}"):
            if not release.lies_in(folder):
                _fetch(release, folder)
    return found or folder


def _fetch(release: Release, folder: Path) -> None:
    home = folder.parent if release.members else folder
    address = os.environ.get(MIRROR) or release.address
    try:
        for file, md5 in release.files.items():
            download(f"{address.rstrip('/')}/{file}", home / file, md5)
    except DataError as error:
        files = ", ".join(release.files)
        raise DataError(f"{release.name}: {error}; or put {files} into {home} ({DATA} names another)") from error
    if release.members:
        archive = home / next(iter(release.files))
        unpack(archive, folder, release.members)
        archive.unlink()


def unpack(archive: Path, folder: Path, names: tuple[str, ...]) -> None:
    """Take from an archive the files with these names, in its folder of that name, and nothing else.

    Raises:
        DataError: if one is missing, or is no plain file; names the archive.
    """
    for name, content in _members(archive, folder.name, names):
        write_aside(folder / name, partial(_write, content=content))


def _members(archive: Path, folder: str, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    with naming(archive), decoding(), tarfile.open(archive) as tar:
        for name in track(names, f"unpacking {archive.name}"):
            member = tar.getmember(f"{folder}/{name}")
            inside = tar.extractfile(member) if member.isreg() else None
            if inside is None:
                raise DataError(f"{member.name} in it is no plain file; do not trust it")
            yield name, inside.read()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
