import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from carso import data
from carso.errors import DataError, RunError

CLEAN = torch.linspace(0, 1, 3 * 1 * 4 * 5).reshape(3, 1, 4, 5)
ATTACKED = (CLEAN + 0.1 / 3).clamp(0, 1)
LABELS = torch.tensor([2, 0, 1])


@pytest.mark.parametrize("labels", [None, LABELS])
@pytest.mark.parametrize("name", ["pairs.npz", "pairs"])
def test_reads_back_what_was_saved_to_the_last_bit(tmp_path: Path, labels: torch.Tensor | None, name: str) -> None:
    data.save_pairs(tmp_path / name, ATTACKED, CLEAN, labels)
    pairs = data.load_pairs(str(tmp_path / name))
    assert torch.equal(pairs.attacked, ATTACKED)
    assert torch.equal(pairs.clean, CLEAN)
    assert pairs.labels is None if labels is None else torch.equal(pairs.labels, labels)
    assert len(pairs) == 3
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_bytes_are_divided_by_255(tmp_path: Path) -> None:
    bytes_ = np.arange(60, dtype=np.uint8).reshape(3, 1, 4, 5)
    np.savez(
        tmp_path / "p.npz", attacked=bytes_ + 100, clean=bytes_.astype(np.float64) / 255, labels=np.uint8([1, 2, 3])
    )
    pairs = data.load_pairs(tmp_path / "p.npz")
    assert torch.equal(pairs.attacked, torch.tensor((bytes_ + 100) / 255, dtype=torch.float32))
    assert torch.equal(pairs.clean, torch.tensor(bytes_ / 255, dtype=torch.float32))
    assert pairs.labels is not None
    assert pairs.labels.dtype == torch.int64


GOOD: dict[str, Any] = {"attacked": ATTACKED.numpy(), "clean": CLEAN.numpy()}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"attacked": GOOD["attacked"]}, "no key 'clean', only attacked"),
        ({"x": GOOD["attacked"], "y": GOOD["clean"]}, "no key 'attacked', only x, y"),
        ({**GOOD, "clean": GOOD["clean"][:2]}, r"attacked \(3, 1, 4, 5\) and clean \(2, 1, 4, 5\)"),
        ({**GOOD, "attacked": GOOD["attacked"] * 255}, r"attacked: images must lie in \[0, 1\]"),
        ({**GOOD, "clean": GOOD["clean"] * np.nan}, "clean: image 0 holds NaN"),
        ({**GOOD, "clean": GOOD["clean"][:, 0]}, r"clean: images must have the shape \(N, C, H, W\)"),
        ({**GOOD, "clean": np.zeros((3, 1, 4, 5), np.int64)}, "clean must be bytes, or floats.*not int64"),
        ({**GOOD, "clean": np.full((3, 1, 4, 5), None)}, "clean: holds Python objects"),
        ({**GOOD, "labels": np.zeros(2, np.int64)}, r"labels must have the shape \(3,\), not \(2,\)"),
        ({**GOOD, "labels": np.zeros(3)}, "labels must be whole numbers, not float64"),
    ],
)
def test_names_the_key_that_is_wrong(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(DataError, match=f"p.npz: .*{message}"):
        data.load_pairs(tmp_path / "p.npz")


def test_names_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p\.npz: there is no such file"):
        data.load_pairs(tmp_path / "p.npz")


def test_refuses_a_single_array(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", GOOD["clean"])
    with pytest.raises(DataError, match=r"p\.npy: holds a single array"):
        data.load_pairs(tmp_path / "p.npy")


@pytest.mark.parametrize("content", [b"", b"neither", b"PK\x03\x04 not really"])
def test_refuses_what_is_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"p\.npz: is not a readable \.npz"):
        data.load_pairs(tmp_path / "p.npz")


def test_refuses_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    data.save_pairs(path, ATTACKED, CLEAN)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"p\.npz: is not a readable \.npz"):
        data.load_pairs(path)


def test_refuses_damage_within(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    np.savez(path, **GOOD)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"p\.npz: attacked: is damaged \(BadZipFile"):
        data.load_pairs(path)


def test_refuses_to_save_pairs_that_do_not_match(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="same shape"):
        data.save_pairs(tmp_path / "p.npz", ATTACKED[:1], CLEAN)
    assert not list(tmp_path.iterdir())


def test_a_failed_save_leaves_the_old_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.npz"
    data.save_pairs(path, ATTACKED, CLEAN)

    def full(file: Any, **_: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(RunError, match="No space left"):
        data.save_pairs(path, CLEAN, CLEAN)
    assert torch.equal(data.load_pairs(path).attacked, ATTACKED)
    assert list(tmp_path.iterdir()) == [path]


def npy(header: str, values: bytes = b"") -> bytes:
    padded = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded.encode() + values


def write_npz(path: Path, **members: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, content in members.items():
            archive.writestr(f"{key}.npy", content)


def peak(path: Path, message: str) -> int:
    """The most bytes that refusing a file takes."""
    tracemalloc.start()
    with pytest.raises(DataError, match=message):
        data.load_pairs(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


BYTES = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }"


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    blank = npy(BYTES % "(65536, 1, 32, 32)", bytes(2**26))
    write_npz(tmp_path / "p.npz", attacked=blank, clean=blank)
    message = r"p\.npz: attacked: its header promises 67,108,992 bytes out of [0-9,]+, over 100 times as many"
    assert peak(tmp_path / "p.npz", message) < 2**20


@pytest.mark.parametrize("shape", ["(65536, 3, 256, 256)", "(2, 1, 4, 5)", "(1, 1, 4, 4)", "(9, -1)"])
def test_a_header_that_promises_other_values_than_follow_is_refused(tmp_path: Path, shape: str) -> None:
    """Numpy would make room for what is promised, and only then read."""
    odd = npy(BYTES % shape, bytes(20))
    write_npz(tmp_path / "p.npz", attacked=odd, clean=odd)
    assert peak(tmp_path / "p.npz", r"p\.npz: attacked: promises -?[0-9,]+ bytes of values, but 20 follow") < 2**20


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "holds Python objects"),
        (npy(BYTES % "(1,)", b"1").replace(b"\x01\x00", b"\x03\x00", 1), r"is in version \(3, 0\) of the NPY format"),
        (npy(BYTES % "(1L,)", b"1"), r"is damaged \(UserWarning: Reading"),
        (npy("(" * 110), "is damaged"),
        (b"", "is damaged"),
    ],
)
def test_odd_members_are_refused(tmp_path: Path, member: bytes, message: str) -> None:
    write_npz(tmp_path / "p.npz", attacked=member, clean=member)
    with pytest.raises(DataError, match=f"p.npz: attacked: {message}"):
        data.load_pairs(tmp_path / "p.npz")


def test_members_packed_otherwise_and_in_another_order_are_read(tmp_path: Path) -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(3, 1, 4, 5)
    with zipfile.ZipFile(tmp_path / "p.npz", "w", zipfile.ZIP_LZMA) as archive:
        for key in ("attacked", "clean"):
            with archive.open(f"{key}.npy", "w") as file:
                np.save(file, np.asfortranarray(pixels))
    assert torch.equal(data.load_pairs(tmp_path / "p.npz").clean, torch.tensor(pixels / 255, dtype=torch.float32))


def test_the_keys_that_are_there_are_named_shortly(tmp_path: Path) -> None:
    write_npz(tmp_path / "p.npz", **{"k" * 5000: b"", **{f"k{at}": b"" for at in range(50)}})
    with pytest.raises(DataError, match="has no key 'attacked', only k0, k1, k10") as caught:
        data.load_pairs(tmp_path / "p.npz")
    assert len(str(caught.value)) < 500


def test_labels_are_not_lost_with_their_name(tmp_path: Path) -> None:
    path = tmp_path / "p.npz"
    data.save_pairs(path, ATTACKED, CLEAN, LABELS)
    before, found, after = path.read_bytes().rpartition(b"labels.npy")
    path.write_bytes(before + bytes(len(found)) + after)
    with pytest.raises(DataError, match=r"p\.npz: is not a readable \.npz: is damaged \(BadZipFile: File name in dir"):
        data.load_pairs(path)
