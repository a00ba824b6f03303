"""Pictures decoded once, by several processes, into bytes.

Few enough stay in memory. More are kept in the cache folder for the next time, and read from there batch by batch:

    CACHE/pictures/KEY/images.npy    bytes (N, C, H, W), zeros where a picture cannot be used
    CACHE/pictures/KEY/survey.json   which those are and why, and what kinds there are; written last

KEY is a digest of the pictures' paths, lengths and times of change, of how they are fitted, and of the decoder.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL
import torch
from numpy.lib import format as npy
from numpy.typing import NDArray
from torch import Tensor

from carso.data.cache import DATA, cache_folder, filling
from carso.data.image import FORMATS, fitted, flatten, open_image
from carso.data.lazy import Lazy
from carso.data.reading import decoding, naming
from carso.data.workers import each
from carso.errors import DataError
from carso.progress import note, track
from carso.storage.files import read_text, write_aside, write_text

IN_MEMORY = 2**28
"""Bytes of pictures that are decoded anew every time rather than kept in a file, at most."""

WINDOW = 2**27
"""Bytes of decoded pictures that may wait to be taken."""

VERSION = 1
"""Of what is kept."""

IMAGES, SURVEY = "images.npy", "survey.json"


@dataclass(frozen=True)
class Fitting:
    """How pictures become alike.

    Attributes:
        size: (height, width) to which they are cut about their centre and resized; None takes them as they are.
        channels: 1 for grey, 3 for colour; None takes them as they are.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None

    def pixels(self, path: Path) -> NDArray[np.uint8]:
        """A picture as bytes (C, H, W)."""
        with naming(path):
            picture = flatten(open_image(path, tuple(FORMATS)))
        if self.size or self.channels:
            size = self.size or (picture.height, picture.width)
            picture = fitted(picture, self.channels or len(picture.getbands()), size)
        levels = np.asarray(picture)
        return np.ascontiguousarray(levels.reshape(*levels.shape[:2], -1).transpose(2, 0, 1))

    def attempt(self, path: Path) -> NDArray[np.uint8] | str:
        """A picture as bytes, or why it cannot be read."""
        try:
            return self.pixels(path)
        except DataError as error:
            return str(error)


@dataclass
class Survey:
    """What was found.

    Attributes:
        shape: (C, H, W) of the first picture that can be read, which all must have.
        first: its name.
        faults: by position, why a picture cannot be used.
        kinds: how many pictures there are of each kind that was read.
    """

    shape: tuple[int, ...]
    first: str
    faults: dict[int, str] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)

    def rows(self, paths: Sequence[Path], fitting: Fitting) -> Iterator[NDArray[np.uint8]]:
        """Every picture in its turn, black where it cannot be used."""
        waiting = max(1, WINDOW // math.prod(self.shape))
        found = each(fitting.attempt, paths, waiting)
        for at, (path, pixels) in enumerate(zip(paths, track(found, "decoding pictures", len(paths)), strict=True)):
            yield self._row(at, path, pixels)

    def _row(self, at: int, path: Path, pixels: NDArray[np.uint8] | str) -> NDArray[np.uint8]:
        if not isinstance(pixels, str):
            self.kinds[kind_of(pixels.shape)] += 1
        fault = self.fault_of(path, pixels)
        if fault is None and not isinstance(pixels, str):
            return pixels
        self.faults[at] = str(fault)
        return np.zeros(self.shape, np.uint8)

    def fault_of(self, path: Path, pixels: NDArray[np.uint8] | str) -> str | None:
        """Why what `Fitting.attempt` gave cannot be used; None if it can."""
        if isinstance(pixels, str):
            return pixels
        if pixels.shape == self.shape:
            return None
        return f"{path}: is {kind_of(pixels.shape)}, but {self.first} is {kind_of(self.shape)}"

    def still(self, paths: Sequence[Path], fitting: Fitting) -> bool:
        """Whether what could not be used cannot be used now, for the same reason."""
        return all(self.fault_of(paths[at], fitting.attempt(paths[at])) == fault for at, fault in self.faults.items())

    @property
    def listed(self) -> str:
        """The kinds, the commonest first."""
        common = self.kinds.most_common(4)
        rest = self.kinds.total() - sum(count for _, count in common)
        counts = [f"{count} {kind}" for kind, count in common]
        return "; ".join([*counts, f"{rest} of other kinds"] if rest else counts)


def kind_of(shape: Sequence[int]) -> str:
    """Pixels (C, H, W), in words."""
    channels, height, width = shape
    return f"{'grey' if channels == 1 else 'in colour'}, {width} x {height} pixels"


def decode(
    paths: Sequence[Path], fitting: Fitting, refuse: Callable[[Survey], object] | None = None
) -> tuple[Tensor | Lazy, Survey]:
    """The bytes (N, C, H, W) of pictures, and which of them cannot be used.

    Args:
        paths: of the pictures.
        fitting: how they become alike.
        refuse: called once one is of another kind than the first, with what was found up to it, where they are too many
            for memory; what it raises leaves nothing in the cache folder.

    Raises:
        DataError: if none can be read, or there is no room for them.
        RunError: if the cache folder cannot be written.
    """
    path, first = _first(paths, fitting)
    survey = Survey(first.shape, path.name)
    if len(paths) * first.size > IN_MEMORY:
        return _kept(paths, fitting, survey, refuse)
    pixels = np.empty((len(paths), *first.shape), np.uint8)
    for at, row in enumerate(survey.rows(paths, fitting)):
        pixels[at] = row
    return torch.from_numpy(pixels), survey


def _first(paths: Sequence[Path], fitting: Fitting) -> tuple[Path, NDArray[np.uint8]]:
    for path in paths:
        if not isinstance(found := fitting.attempt(path), str):
            return path, found
    raise DataError(f"{fitting.attempt(paths[0])}; no other of the {len(paths)} pictures can be read either")


def _kept(
    paths: Sequence[Path], fitting: Fitting, survey: Survey, refuse: Callable[[Survey], object] | None
) -> tuple[Lazy, Survey]:
    folder = cache_folder() / "pictures" / _key(paths, fitting)
    shape = (len(paths), *survey.shape)
    if not _is_kept(folder, survey, paths, fitting):
        with filling(folder, "decoding pictures"):
            if not _is_kept(folder, survey, paths, fitting):
                survey.faults, survey.kinds = {}, Counter()
                rows = survey.rows(paths, fitting)
                _keep(folder, shape, survey, rows if refuse is None else _alike(rows, survey, refuse))
    channels, height, width = survey.shape
    return Lazy(Stored(folder / IMAGES, shape), torch.arange(len(paths)), (channels, height, width)), survey


def _alike(
    rows: Iterable[NDArray[np.uint8]], survey: Survey, refuse: Callable[[Survey], object]
) -> Iterator[NDArray[np.uint8]]:
    """The rows, of which `refuse` is told once they are of two kinds."""
    for row in rows:
        if len(survey.kinds) > 1:
            refuse(survey)
        yield row


def _is_kept(folder: Path, survey: Survey, paths: Sequence[Path], fitting: Fitting) -> bool:
    """Whether the pictures were decoded before, as they would be now; then the survey is what was found."""
    if not (folder / SURVEY).is_file():
        return False
    said = json.loads(read_text(folder / SURVEY))
    survey.faults = {int(at): fault for at, fault in said["faults"].items()}
    survey.kinds = Counter(said["kinds"])
    return survey.still(paths, fitting)


def _keep(folder: Path, shape: tuple[int, ...], survey: Survey, rows: Iterable[NDArray[np.uint8]]) -> None:
    needed, free = math.prod(shape), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: decoded pictures take {needed / 1e9:.1f} GB, {free / 1e9:.1f} are free; "
            f"pass a smaller size, or name another folder by {DATA}"
        )

    def write(aside: Path) -> None:
        with aside.open("wb") as file:
            npy.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            for row in rows:
                file.write(row.tobytes())

    write_aside(folder / IMAGES, write)
    write_text(folder / SURVEY, json.dumps({"faults": survey.faults, "kinds": survey.kinds}))
    note(f"decoded pictures ({needed / 1e9:.1f} GB) are kept in {folder} and may be removed")


def _key(paths: Sequence[Path], fitting: Fitting) -> str:
    found = [(os.path.abspath(path), path.stat()) for path in paths]
    files = [(name, state.st_size, state.st_mtime_ns) for name, state in found]
    told = json.dumps([VERSION, PIL.__version__, fitting.size, fitting.channels, files])
    return hashlib.sha256(told.encode(errors="surrogateescape")).hexdigest()[:24]


@dataclass(frozen=True)
class Stored:
    """Reads images from a file of bytes, which is mapped into memory for one batch at a time.

    Attributes:
        path: of an array in numpy's format.
        shape: of it.
    """

    path: Path
    shape: tuple[int, ...]

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images at positions, batch by batch."""
        for positions in batches:
            yield self._read(positions)

    def _read(self, positions: Tensor) -> Tensor:
        with naming(self.path), decoding():
            held = np.load(self.path, mmap_mode="r")
            if (held.shape, held.dtype) != (self.shape, np.uint8):
                raise DataError(f"holds other values than bytes {self.shape}; remove its folder")
            return torch.from_numpy(np.asarray(held[positions.numpy()]))
