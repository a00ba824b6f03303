import gzip
import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.data.conftest import Server

from carso import data
from carso.data import mnist, published
from carso.data.published import CIFAR_10_RELEASE, CIFAR_100_RELEASE, FASHION_RELEASE, Release, obtain
from carso.errors import DataError, RunError

RNG = np.random.default_rng(0)
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def batch(labels: str) -> bytes:
    pixels = RNG.integers(0, 256, (4, 3072), dtype=np.uint8)
    return pickle.dumps({b"data": pixels, labels.encode(): [0, 1, 2, 3]}, protocol=2)


def tarball(members: dict[str, bytes | str]) -> bytes:
    """Bytes are files; text is what a symbolic link points to."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            if isinstance(content, str):
                entry.type, entry.linkname, content = tarfile.SYMTYPE, content, b""
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


TEN = {f"cifar-10-batches-py/{name}": batch("labels") for name in BATCHES}
HUNDRED = {f"cifar-100-python/{name}": batch("fine_labels") for name in ("train", "test")}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CARSO_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def serve(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Release, dict[str, bytes]], None]:
    """Serve files in place of a release's, as if they were the published ones."""
    monkeypatch.setenv("CARSO_MIRROR", f"{server.address}/")

    def publish(release: Release, files: dict[str, bytes]) -> None:
        server.files |= files
        sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
        monkeypatch.setitem(vars(release), "files", sums)

    return publish


def test_cifar_10_is_fetched_once(server: Server, serve: Callable[..., None], cache: Path) -> None:
    serve(CIFAR_10_RELEASE, {"cifar-10-python.tar.gz": tarball(TEN)})
    test = data.load("cifar10", "test")
    assert (test.name, test.shape, test.classes[3]) == ("cifar10", (3, 32, 32), "cat")
    again = data.load("cifar-10", "test")
    assert torch.equal(again.images, test.images)
    assert again.name == "cifar10"
    assert len(data.load("cifar10", "train")) == 18
    assert len(server.asked) == 1
    assert [path.name for path in cache.iterdir()] == ["cifar-10-batches-py"]
    assert sorted(path.name for path in (cache / "cifar-10-batches-py").iterdir()) == sorted(BATCHES)


def test_cifar_100_is_fetched(serve: Callable[..., None]) -> None:
    serve(CIFAR_100_RELEASE, {"cifar-100-python.tar.gz": tarball(HUNDRED)})
    test = data.load("cifar100", "test")
    assert (test.name, len(test), len(test.classes)) == ("cifar100", 4, 100)


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return gzip.compress(bytes((0, 0, 8, values.ndim)) + sizes + values.astype(np.uint8).tobytes())


def test_fashion_mnist_is_fetched_where_debian_has_none(
    server: Server, serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mnist, "FASHION_FOLDER", tmp_path / "none")
    pixels = RNG.integers(0, 256, (24, 28, 28))
    arrays = [pixels, np.arange(24) % 10, pixels[:6], np.arange(6)]
    serve(FASHION_RELEASE, {name: idx(values) for name, values in zip(FASHION_RELEASE.files, arrays, strict=True)})
    test = data.load("fashion", "test")
    assert (test.name, test.classes[9]) == ("fashion-mnist", "ankle boot")
    assert torch.equal(test.images, torch.tensor(pixels[:6, None] / 255, dtype=torch.float32))
    assert [name for name, _ in server.asked] == list(FASHION_RELEASE.files)


def test_a_set_in_the_cache_folder_needs_no_network(cache: Path) -> None:
    for name, content in TEN.items():
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_bytes(content)
    assert len(data.load("cifar10", "validation")) == 2


def test_an_archive_that_was_put_there_needs_no_network(
    cache: Path, monkeypatch: pytest.MonkeyPatch, server: Server, serve: Callable[..., None]
) -> None:
    serve(CIFAR_10_RELEASE, {"cifar-10-python.tar.gz": tarball(TEN)})
    monkeypatch.setenv("CARSO_MIRROR", "http://127.0.0.1:9")
    cache.mkdir()
    (cache / "cifar-10-python.tar.gz").write_bytes(server.files["cifar-10-python.tar.gz"])
    assert len(data.load("cifar10", "test")) == 4


def test_says_which_address_failed_and_where_to_put_the_files(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mnist, "FASHION_FOLDER", tmp_path / "none")
    for name, file, folder in (
        ("cifar10", "cifar-10-python.tar.gz", cache),
        ("cifar100", "cifar-100-python.tar.gz", cache),
        ("fashion", "train-images-idx3-ubyte.gz", cache / "fashion-mnist"),
    ):
        with pytest.raises(DataError) as caught:
            data.load(name, "test")
        message = str(caught.value)
        assert f"http://127.0.0.1:9/{file}: cannot be reached" in message
        assert f"{file}" in message.partition("or put")[2]
        assert message.endswith(f"into {folder} (CARSO_DATA names another)")
        assert "\n" not in message
    assert not list(cache.rglob("*.*"))


def test_goes_on_with_what_is_left_of_an_interrupted_set(
    server: Server, serve: Callable[..., None], cache: Path
) -> None:
    packed = tarball(TEN)
    serve(CIFAR_10_RELEASE, {"cifar-10-python.tar.gz": packed})
    server.cut = 1000
    with pytest.raises(DataError, match=f"cifar10: .*cut off after 1,000 of {len(packed):,} bytes; what came is kept"):
        data.load("cifar10", "test")
    (cache / "cifar-10-batches-py").mkdir()
    (cache / "cifar-10-batches-py" / "test_batch").write_bytes(TEN["cifar-10-batches-py/test_batch"])
    assert len(data.load("cifar10", "train")) == 18
    assert server.asked[1] == ("cifar-10-python.tar.gz", "bytes=1000-")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({**TEN, "cifar-10-batches-py/test_batch": "/etc/passwd"}, "test_batch in it is no plain file"),
        (dict(list(TEN.items())[:-1]), "is damaged .*test_batch.*not found"),
    ],
)
def test_only_plain_files_that_are_looked_for_leave_an_archive(
    serve: Callable[..., None], cache: Path, members: dict[str, bytes | str], message: str
) -> None:
    absolute = cache.parent / "absolute"
    outside = {"../outside": b"x", str(absolute): b"x", "cifar-10-batches-py/more": b"x"}
    serve(CIFAR_10_RELEASE, {"cifar-10-python.tar.gz": tarball({**outside, **members})})
    with pytest.raises(DataError, match=message):
        data.load("cifar10", "test")
    assert not (cache.parent / "outside").exists()
    assert not absolute.exists()
    assert {path.name for path in cache.rglob("*")} <= {*BATCHES[:5], cache.name, "cifar-10-batches-py"} | {
        "cifar-10-python.tar.gz"
    }


FETCH = """
from carso.data.published import Release, obtain
import sys
print(obtain(Release("some", "some", "", dict([sys.argv[1:3]]), ("a", "b"))))
"""


def test_of_two_processes_one_fetches(server: Server, serve: Callable[..., None], cache: Path) -> None:
    content = {"some/a": RNG.bytes(5_000_000), "some/b": b"b"}
    server.files["some.tar.gz"] = tarball(content)
    checksum = hashlib.md5(server.files["some.tar.gz"]).hexdigest()
    command = [sys.executable, "-c", FETCH, "some.tar.gz", checksum]
    pair = [subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=60)[0].strip() for process in pair] == [str(cache / "some")] * 2
    assert {path.name: path.read_bytes() for path in (cache / "some").iterdir()} == {
        name.removeprefix("some/"): value for name, value in content.items()
    }
    assert len(server.asked) == 1


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.write_text("a file, not a folder")
    with pytest.raises(RunError, match=f"cannot write {cache}"):
        obtain(CIFAR_10_RELEASE)


def test_the_canonical_addresses_stand_there(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    monkeypatch.delenv("CARSO_MIRROR")
    asked: list[str] = []

    def refuse(address: str, path: Path, md5: str) -> None:
        asked.append(address)
        raise DataError(f"{address}: cannot be reached")

    monkeypatch.setattr(published, "download", refuse)
    for release in (CIFAR_10_RELEASE, CIFAR_100_RELEASE, FASHION_RELEASE):
        with pytest.raises(DataError, match="cannot be reached"):
            obtain(release)
    assert asked == [
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
    ]


def test_options_for_pictures_are_refused_before_anything_is_fetched(serve: Callable[..., None], cache: Path) -> None:
    with pytest.raises(DataError, match="cifar10: size, channels and skip_bad are for folders of pictures"):
        data.load("cifar10", "test", channels=1)
    assert not list(cache.rglob("*"))
