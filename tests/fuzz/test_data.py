"""Every reader of `carso.data`, given small valid files that were damaged by seed.

Each either reads what was written, or raises one DataError that names the file in a few hundred characters; within
5 seconds and a gigabyte. Where a format has a checksum (gzip, zip, PNG), what is read is what was written, to the bit.
Where it has none, no reader can know: plain IDX and pickles may differ in no more values than bytes were touched, and
a JPEG, WebP, BMP or TIFF need only be a picture of the shape asked for. What was cut short is never read in part.

`CARSO_FUZZ=500 pytest tests/fuzz/test_data.py` gives each reader 500 inputs, `python tests/fuzz/test_data.py 500 SEED`
others, and prints what becomes of them.
"""

from __future__ import annotations

import gzip
import json
import os
import pickle
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.runs.fuzz import log
from PIL import Image
from torch import Tensor

from carso import data
from carso.errors import LONGEST, DataError

COUNT = int(os.environ.get("CARSO_FUZZ", "60"))
SECONDS, PEAK = 5, 2**30
OURS = (MemoryError, RecursionError, NameError, AssertionError, ImportError)
"""Causes of a DataError that would be no fault of the file."""

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 11, 13), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (11, 13, 3), dtype=np.uint8)
BATCH = {b"data": RNG.integers(0, 256, (3, 3072), dtype=np.uint8), b"labels": [1, 9, 4], b"filenames": [b"a", b"b"]}


@dataclass(frozen=True)
class Reader:
    """A way to write a small set of images, and to read it back.

    Attributes:
        write: fills a folder and returns the file to damage.
        read: reads the folder.
        loose: how many values may differ, given the bytes that were touched; None asks for the shapes alone.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], list[Tensor]]
    loose: Callable[[int], int] | None = lambda touched: 0


def load(folder: Path) -> list[Tensor]:
    dataset = data.load(folder, "test")
    return [dataset.images, dataset.required_labels, torch.tensor(len(dataset.classes))]


def write_idx(folder: Path, name: str, suffix: str = "") -> Path:
    for kind, values in (("images-idx3", PIXELS), ("labels-idx1", np.uint8([0, 1, 2, 1, 0]))):
        content = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
        packed = gzip.compress(content, mtime=0) if suffix else content
        (folder / f"t10k-{kind}-ubyte{suffix}").write_bytes(packed)
    return folder / f"t10k-{name}-ubyte{suffix}"


def write_batch(folder: Path, protocol: int, name: str = "test_batch") -> Path:
    labels = {b"labels": BATCH[b"labels"]} if name == "test_batch" else {b"fine_labels": BATCH[b"labels"]}
    (folder / name).write_bytes(pickle.dumps({**BATCH, **labels}, protocol=protocol))
    return folder / name


def write_pairs(folder: Path, save: Callable[..., None]) -> Path:
    images = {key: (PIXELS[:, None] / np.float32(255)) for key in ("attacked", "clean")}
    with (folder / "p.npz").open("wb") as file:
        save(file, **images, labels=np.arange(5))
    return folder / "p.npz"


def read_pairs(folder: Path) -> list[Tensor]:
    pairs = data.load_pairs(folder / "p.npz")
    return [pairs.attacked, pairs.clean, torch.tensor([]) if pairs.labels is None else pairs.labels]


def picture(kind: str, suffix: str, **options: Any) -> Reader:
    def write(folder: Path) -> Path:
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = {} if kind == "BMP" else {"exif": exif}
        Image.fromarray(COLOUR).save(folder / f"p.{suffix}", kind, **turned, **options)
        return folder / f"p.{suffix}"

    return Reader(
        write,
        lambda folder: [data.read_image(folder / f"p.{suffix}", (3, 13, 11))],
        Reader.loose if kind == "PNG" else None,
    )


def write_folder(folder: Path) -> Path:
    for at, name in enumerate(("test/a/1.png", "test/a/2.png", "test/b/1.png")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[at]).save(folder / name)
    return folder / "test/a/2.png"


READERS = {
    "idx images": Reader(lambda folder: write_idx(folder, "images-idx3"), load, lambda touched: touched),
    "idx labels": Reader(lambda folder: write_idx(folder, "labels-idx1"), load, lambda touched: touched + 1),
    "idx images, gzip": Reader(lambda folder: write_idx(folder, "images-idx3", ".gz"), load),
    "idx labels, gzip": Reader(lambda folder: write_idx(folder, "labels-idx1", ".gz"), load),
    "cifar-10, protocol 0": Reader(lambda folder: write_batch(folder, 0), load, lambda touched: touched),
    "cifar-10, protocol 2": Reader(lambda folder: write_batch(folder, 2), load, lambda touched: touched),
    "cifar-10, protocol 5": Reader(lambda folder: write_batch(folder, 5), load, lambda touched: touched),
    "cifar-100": Reader(lambda folder: write_batch(folder, 4, "test"), load, lambda touched: touched),
    "npz, stored": Reader(lambda folder: write_pairs(folder, np.savez), read_pairs),
    "npz, deflated": Reader(lambda folder: write_pairs(folder, np.savez_compressed), read_pairs),
    "png": picture("PNG", "png"),
    "jpeg": picture("JPEG", "jpg"),
    "webp": picture("WEBP", "webp"),
    "webp, lossless": picture("WEBP", "webp", lossless=True),
    "bmp": picture("BMP", "bmp"),
    "tiff": picture("TIFF", "tif"),
    "tiff, lzw": picture("TIFF", "tif", compression="tiff_lzw"),
    "folder": Reader(write_folder, load),
}


def flipped(content: bytearray, draw: random.Random) -> int:
    """Turn over one to eight bits."""
    count = draw.randint(1, 8)
    for _ in range(count):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return count


def truncated(content: bytearray, draw: random.Random) -> int:
    """Cut off the end."""
    length = draw.randrange(len(content))
    lost = len(content) - length
    del content[length:]
    return lost


def spliced(content: bytearray, draw: random.Random) -> int:
    """Overwrite, insert or remove a run of bytes, or add it at the end."""
    run = bytes(content[(start := draw.randrange(len(content))) : start + draw.randint(1, 64)])
    at = draw.choice([draw.randrange(len(content)), len(content)])
    content[at : at + draw.choice([0, len(run)])] = draw.choice([run, b"", bytes(len(run)), draw.randbytes(len(run))])
    return len(run)


def promised(content: bytearray, draw: random.Random) -> int:
    """Put an extreme number somewhere into the first 64 bytes, where sizes and counts stand."""
    width = draw.choice([1, 2, 4, 8])
    at = draw.randrange(min(64, len(content)))
    content[at : at + width] = draw.choice([b"\xff", b"\x7f", b"\0", b"\x80"]) * width
    return width


def swapped(content: bytearray, draw: random.Random) -> int:
    """Begin as the file of another reader does."""
    length = draw.randint(2, 32)
    content[:length] = draw.choice(BEGINNINGS)[:length]
    return length


def written(reader: Reader) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return reader.write(Path(folder)).read_bytes()


BEGINNINGS = [written(reader)[:32] for reader in READERS.values()]
DAMAGES = (flipped, truncated, spliced, promised, swapped)


def differ(found: list[Tensor], expected: list[Tensor], most: int | None) -> bool:
    """Whether what was read means something else."""
    if [value.shape for value in found] != [value.shape for value in expected]:
        return True
    if most is None:
        return any(value.is_floating_point() and not (0 <= value.min() <= value.max() <= 1) for value in found)
    return sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True)) > most


def outcome(reader: Reader, folder: Path, name: str, expected: list[Tensor], most: int | None) -> str:
    """`read`, `refused`, or what else went on."""
    start = time.monotonic()
    try:
        changed = differ(reader.read(folder), expected, most)
        found = "changed its meaning" if changed else "read"
    except DataError as error:
        short = len(str(error)) <= LONGEST and "\n" not in str(error) and name in str(error)
        found = "refused" if short and not isinstance(error.__cause__, OURS) else f"said {error} ({error.__cause__!r})"
    except Exception as error:
        found = f"raised {type(error).__name__}: {error}"
    return found if time.monotonic() - start < SECONDS else f"took {time.monotonic() - start:.0f} s"


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def trial(name: str, reader: Reader, number: int, seed: int) -> str:
    """One damaged input."""
    draw = random.Random(f"{name} {seed} {number}")
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        path = reader.write(folder)
        expected, content = reader.read(folder), bytearray(path.read_bytes())
        damage = DAMAGES[number % len(DAMAGES)]
        touched = damage(content, draw)
        path.write_bytes(content)
        before = memory()
        most = 0 if damage is truncated else reader.loose and reader.loose(touched)
        found = outcome(reader, folder, path.name, expected, most)
        return found if memory() - before < PEAK else f"took {memory() - before:,} bytes"


def main(count: int, seed: int) -> None:
    """Damage `count` inputs of every reader, and say before and after each what becomes of it."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 4 * PEAK, used + 4 * PEAK))
    for name, reader in READERS.items():
        for number in range(count):
            signal.alarm(4 * SECONDS)
            print(json.dumps([name, number, "ended the process"]), flush=True)
            print(json.dumps([name, number, trial(name, reader, number, seed)]), flush=True)


def outcomes_of(count: int, seed: int) -> dict[str, dict[int, str]]:
    """What became of every input, by reader, in a process whose memory and time are limited."""
    command = [sys.executable, __file__, str(count), str(seed)]
    paths = {"PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | paths)
    found: dict[str, dict[int, str]] = {name: {} for name in READERS}
    for name, number, outcome in map(json.loads, ended.stdout.splitlines()):
        found[name][number] = outcome
    return found


@pytest.fixture(scope="module")
def outcomes() -> dict[str, dict[int, str]]:
    return outcomes_of(COUNT, seed=0)


@pytest.mark.parametrize("name", READERS)
def test_damage_is_read_as_it_was_or_refused(outcomes: dict[str, dict[int, str]], name: str) -> None:
    found = outcomes[name]
    assert {number: what for number, what in found.items() if what not in ("read", "refused")} == {}
    assert len(found) == COUNT
    assert "refused" in found.values()
    log(name, *(list(found.values()).count(what) for what in ("read", "refused")))


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    for name, reader in READERS.items():
        (folder := tmp_path / name).mkdir()
        reader.write(folder)
        assert not differ(reader.read(folder), reader.read(folder), 0), name


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
