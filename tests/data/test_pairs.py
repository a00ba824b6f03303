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
        ({**GOOD, "clean": np.full((3, 1, 4, 5), None)}, "clean cannot be read.*pickle"),
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
    with pytest.raises(DataError, match="attacked cannot be read"):
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
