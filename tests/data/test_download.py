import hashlib
from pathlib import Path

import numpy as np
import pytest
from tests.data.conftest import Server

from carso.data.download import download
from carso.errors import DataError

CONTENT = np.random.default_rng(0).bytes(1_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _published(server: Server) -> None:
    server.files["a.bin"] = CONTENT


def test_brings_the_published_bytes(server: Server, tmp_path: Path) -> None:
    download(f"{server.address}/a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


@pytest.mark.parametrize("ranges", [True, False])
def test_goes_on_where_it_was_cut_off(server: Server, tmp_path: Path, ranges: bool) -> None:
    server.cut, server.ranges = 300_000, ranges
    with pytest.raises(DataError, match=r"a\.bin: was cut off after 300,000 of 1,000,000 bytes; what came is kept in"):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin.part").read_bytes() == CONTENT[:300_000]
    assert not (tmp_path / "a.bin").exists()
    download(f"{server.address}/a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [wanted for _, wanted in server.asked] == ["bytes=0-", "bytes=300000-"]


def test_what_came_whole_before_a_crash_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin.part").write_bytes(CONTENT)
    download(f"{server.address}/a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("begun", [0, 300_000])
def test_nothing_is_kept_of_an_altered_file(server: Server, tmp_path: Path, begun: int) -> None:
    server.files["a.bin"] = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    (tmp_path / "a.bin.part").write_bytes(CONTENT[:begun])
    with pytest.raises(DataError, match=f"a.bin: gives another file than was published.*not {MD5}"):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", MD5)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_checked_and_never_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(CONTENT)
    download(f"{server.address}/a.bin", tmp_path / "a.bin", MD5)
    (tmp_path / "a.bin").write_bytes(CONTENT[1:])
    with pytest.raises(DataError, match=r"a\.bin: is not the published file"):
        download(f"{server.address}/a.bin", tmp_path / "a.bin", MD5)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[1:]
    assert server.asked == []


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:9/a.bin", r"127\.0\.0\.1:9/a\.bin: cannot be reached \(.*refused"),
        ("http://nowhere.invalid/a.bin", r"nowhere\.invalid/a\.bin: cannot be reached"),
        ("no address", r"no address: cannot be reached \(unknown url type"),
    ],
)
def test_names_an_address_that_cannot_be_reached(tmp_path: Path, address: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        download(address, tmp_path / "a.bin", MD5)
    assert list(tmp_path.iterdir()) == []


def test_names_an_address_without_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"/b\.bin: answers 404 Not Found"):
        download(f"{server.address}/b.bin", tmp_path / "b.bin", MD5)
