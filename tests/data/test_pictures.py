import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from carso import data
from carso.data import Dataset, pictures
from carso.data.lazy import Lazy
from carso.errors import DataError, RunError

COUNT = 300
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 5, 4, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More pictures than are decoded without processes."""
    home = tmp_path_factory.mktemp("pictures")
    for number, pixels in enumerate(PIXELS):
        (home / "train" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(home / "train" / "ab"[number % 2] / f"{number:03}.png")
    (home / "val" / "a").mkdir(parents=True)
    (home / "val" / "b").mkdir(parents=True)
    shutil.copy(home / "train" / "a" / "000.png", home / "val" / "a")
    return home


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With nothing small enough for memory."""
    monkeypatch.setenv("CARSO_DATA", str(tmp_path / "cache"))
    monkeypatch.setattr(pictures, "IN_MEMORY", 0)
    return tmp_path / "cache"


def expected() -> torch.Tensor:
    in_order = np.concatenate([PIXELS[::2], PIXELS[1::2]])
    return torch.tensor(in_order.transpose(0, 3, 1, 2) / 255, dtype=torch.float32)


def test_few_stay_in_memory_as_bytes(folder: Path) -> None:
    train = data.load(folder, "train")
    assert isinstance(train.pixels, torch.Tensor)
    assert train.pixels.dtype == torch.uint8
    assert torch.equal(train.images, expected())


def test_many_are_decoded_once_into_the_cache_folder(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train = data.load(folder, "train")
    assert isinstance(train.pixels, Lazy)
    assert torch.equal(train.images, expected())
    kept = list((cache / "pictures").iterdir())
    assert len(kept) == 1
    assert sorted(path.name for path in kept[0].iterdir()) == ["images.npy", "survey.json"]
    assert np.load(kept[0] / "images.npy").dtype == np.uint8
    assert f"are kept in {kept[0]} and may be removed" in capsys.readouterr().err
    monkeypatch.setattr(pictures, "each", None)
    assert torch.equal(data.load(folder, "train").images, expected())


def test_what_is_kept_is_sliced_and_shuffled_without_reading_all(
    folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, read = data.load(folder, "train"), []
    original = pictures.Stored._read
    monkeypatch.setattr(pictures.Stored, "_read", lambda self, at: read.append(at.tolist()) or original(self, at))
    order = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))
    part = train[10:50][torch.tensor([3, 0, 7])]
    assert (part.shape, len(part), read) == ((3, 5, 4), 3, [])
    assert torch.equal(part.images, expected()[[13, 10, 17]])
    batches = train.batches(order.split(64))
    assert torch.equal(next(batches), expected()[order[:64]])
    assert read == [[13, 10, 17], order[:64].tolist()]
    assert torch.equal(train[5].images, expected()[5:6])
    assert part.required_labels.tolist() == train.required_labels[[13, 10, 17]].tolist()


@pytest.mark.parametrize("change", ["size", "content", "gone"])
def test_a_change_of_the_pictures_is_noticed(folder: Path, cache: Path, tmp_path: Path, change: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    first = data.load(copy, "train")
    path = copy / "train" / "a" / "000.png"
    if change == "content":
        Image.fromarray(255 - PIXELS[0]).save(path)
        os.utime(path, ns=(1, 1))
    elif change == "gone":
        path.unlink()
    again = data.load(copy, "train", size=(2, 2) if change == "size" else None)
    assert len(list((cache / "pictures").iterdir())) == 2
    assert torch.equal(first.images, expected())
    assert again.shape == ((3, 2, 2) if change == "size" else (3, 5, 4))
    if change == "content":
        torch.testing.assert_close(again.images[0], 1 - expected()[0])
    assert len(again) == COUNT - (change == "gone")


def test_bad_pictures_need_not_be_looked_for_twice(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    for name in ("000", "002"):
        (copy / "train" / "a" / f"{name}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a/000\.png: is not a .*\(2 of 300 cannot be used\)"):
        data.load(copy, "train")
    monkeypatch.setattr(pictures, "each", None)
    train = data.load(copy, "train", skip_bad=True)
    assert torch.equal(train.images, expected()[2:])
    assert train.required_labels.tolist() == [0] * 148 + [1] * 150


def test_many_pictures_of_two_kinds_are_refused_at_the_first_that_differs(
    folder: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, looked = shutil.copytree(folder, tmp_path / "copy"), []
    Image.new("L", (9, 7)).save(copy / "train" / "a" / "010.png")
    (copy / "train" / "a" / "002.png").write_bytes(b"")
    monkeypatch.setattr(
        pictures, "each", lambda work, paths, _: (looked.append(path.name) or work(path) for path in paths)
    )
    kinds = "4 in colour, 4 x 5 pixels; 1 grey, 9 x 7 pixels"
    with pytest.raises(DataError, match=rf"a/010\.png: is grey, 9 x 7.*there are {kinds} among the first 6 of 300$"):
        data.load(copy, "train")
    assert looked == [f"{number:03}.png" for number in range(0, 12, 2)]
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert len(data.load(copy, "train", skip_bad=True)) == COUNT - 2


def test_a_file_that_was_cut_is_named(folder: Path, cache: Path) -> None:
    train = data.load(folder, "train")
    path = next((cache / "pictures").glob("*/images.npy"))
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=rf"{path}: is damaged"):
        _ = train.images


def test_too_little_room_is_said_before_the_work(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 17_000))
    with pytest.raises(DataError, match=r"take 0\.0 GB, 0\.0 are free; pass a smaller size, or .* by CARSO_DATA"):
        data.load(folder, "train")
    assert not list(cache.rglob("images.npy*"))


def test_a_cache_folder_that_cannot_be_written_is_named(folder: Path, cache: Path) -> None:
    cache.write_text("a file")
    with pytest.raises(RunError, match=rf"cannot write {cache}.*; CARSO_DATA names another folder"):
        data.load(folder, "train")


def test_an_interrupted_decoding_leaves_nothing(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> object:
        yield PIXELS[0].transpose(2, 0, 1)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "each", interrupted)
        with pytest.raises(KeyboardInterrupt):
            data.load(folder, "train")
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert torch.equal(data.load(folder, "train").images, expected())


def test_a_set_with_an_unlabelled_part_is_moved_as_a_whole(folder: Path, cache: Path) -> None:
    train = data.load(folder, "train")
    moved = Dataset("d", train.pixels).to(torch.device("cpu"))
    assert moved.labels is None
    assert torch.equal(moved[:3].images, expected()[:3])


def test_what_could_not_be_read_for_a_while_is_read_again(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        (tmp_path / "few" / "train" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[number]).save(tmp_path / "few" / "train" / "ab"[number % 2] / f"{number}.png")
    (tmp_path / "few" / "train" / "a" / "broken.png").write_bytes(b"nothing")
    attempt = pictures.Fitting.attempt
    with monkeypatch.context() as patch:
        patch.setattr(
            pictures.Fitting,
            "attempt",
            lambda self, path: f"{path}: cannot be read" if path.name == "2.png" else attempt(self, path),
        )
        assert len(data.load(tmp_path / "few", "train", skip_bad=True)) == 3
    again = data.load(tmp_path / "few", "train", skip_bad=True)
    assert torch.equal(again.images, torch.tensor(PIXELS[[0, 2, 1, 3]].transpose(0, 3, 1, 2) / 255).float())
    monkeypatch.setattr(pictures, "each", None)
    assert len(data.load(tmp_path / "few", "train", skip_bad=True)) == 4
