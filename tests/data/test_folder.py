import hashlib
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from carso import data
from carso.data import Dataset, layout
from carso.errors import DataError

SPLITS: tuple[data.Split, ...] = ("train", "validation", "test")


def write(path: Path, level: int, mode: str = "L", size: tuple[int, int] = (4, 3)) -> None:
    """A picture (width, height) of a single level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).convert(mode).save(path)


def levels(dataset: Dataset) -> list[int]:
    return (dataset.images[:, 0, 0, 0] * 255).round().int().tolist()


def named(dataset: Dataset) -> list[str]:
    return [dataset.classes[label] for label in dataset.required_labels]


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tif", "TIFF", "webp"])
def test_a_flat_folder_has_no_labels(tmp_path: Path, suffix: str) -> None:
    for level in (3, 1, 2):
        options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
        Image.new("L", (4, 3), level).save(tmp_path / f"{level}.{suffix}", **options)
    train, test = data.load(tmp_path, "train"), data.load(tmp_path, "test")
    chosen = min((1, 2, 3), key=lambda level: hashlib.sha256(f"{level}.{suffix}".encode()).digest())
    assert (levels(train), levels(test)) == (sorted({1, 2, 3} - {chosen}), [chosen])
    assert train.shape == (3 if suffix == "webp" else 1, 3, 4)
    assert train.labels is None
    assert train.classes == ()


def test_subfolders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    for level, name in enumerate(("zebra/a.png", "ape/2.JPG", "ape/1.jpeg", "cat/x.PNG")):
        write(tmp_path / "test" / name, level * 10, "RGB")
    read = data.load(tmp_path, "test")
    assert read.classes == ("ape", "cat", "zebra")
    assert read.required_labels.tolist() == [0, 0, 1, 2]
    assert levels(read) == [20, 10, 30, 0]
    assert read.shape == (3, 3, 4)


@pytest.mark.parametrize(("first", "ordered"), [(0, True), (1, False)], ids=["from 0", "from 1"])
def test_classes_that_are_called_by_their_numbers_have_these(tmp_path: Path, first: int, ordered: bool) -> None:
    called = [str(number) for number in range(first, first + 12)]
    for level, name in enumerate(called):
        write(tmp_path / "test" / name / "a.png", 10 * level, "RGB")
    read = data.load(tmp_path, "test")
    assert read.classes == tuple(called if ordered else sorted(called))
    named = [read.classes[label] for label in read.required_labels]
    assert [called.index(name) for name in named] == [level // 10 for level in levels(read)]


def test_a_name_that_is_not_utf_8_takes_its_share(tmp_path: Path) -> None:
    for level in range(12):
        write(tmp_path / ("ape", "cat")[level % 2] / f"{level}.png", level, "RGB")
    write(tmp_path / "ape" / os.fsdecode(b"\xff.png"), 99, "RGB")
    found = [level for split in ("train", "validation", "test") for level in levels(data.load(tmp_path, split))]
    assert sorted(found) == [*range(12), 99]


def test_undivided_pictures_are_shared_out_by_their_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(26):
        write(tmp_path / f"{'ab'[number // 13]}" / "of 2026" / f"{number:02}.png", number)
    train, validation, test = (data.load(tmp_path, split) for split in SPLITS)
    ranked = sorted(range(26), key=lambda at: hashlib.sha256(f"of 2026/{at:02}.png".encode()).digest())
    a, b = [at for at in ranked if at < 13], [at for at in ranked if at >= 13]
    assert levels(test) == sorted(a[:2] + b[:2])
    assert levels(validation) == [a[2], b[2]]
    assert levels(train) == sorted(a[3:] + b[3:])
    for part in (train, validation, test):
        assert part.classes == ("a", "b")
        assert named(part) == ["ab"[level // 13] for level in levels(part)]
    said = f"{tmp_path}: no folders train and test, so the 26 pictures are shared out by their names: "
    assert f"{said}20 for train, 2 for validation, 4 for test\n" in capsys.readouterr().err


@pytest.mark.parametrize("sizes", [(60, 60, 60), (5, 120, 31), (1, 1, 12), (2,) * 30])
def test_every_class_gives_the_same_share(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    for name, size in enumerate(sizes):
        for at in range(size):
            write(tmp_path / f"{name:02}" / f"{at:03}.png", at, size=(1, 1))
    for split, share in zip(SPLITS, (9 / 12, 1 / 12, 2 / 12), strict=True):
        counts = torch.bincount(data.load(tmp_path, split).required_labels, minlength=len(sizes))
        for size, count in zip(sizes, counts.tolist(), strict=True):
            assert abs(count - size * share) <= (1 if split != "train" else 2)


def test_the_same_pictures_are_shared_out_alike_wherever_they_lie(tmp_path: Path) -> None:
    for number in range(24):
        for copy in ("one", "two"):
            write(tmp_path / copy / f"{'ab'[number % 2]}" / f"{(7 * number) % 24:02}.png", number)
    for split in SPLITS:
        assert levels(data.load(tmp_path / "one", split)) == levels(data.load(tmp_path / "two", split))


def test_too_few_images_to_hold_one_out(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1)
    assert levels(data.load(tmp_path, "train")) == [1]
    for split in ("validation", "test"):
        with pytest.raises(DataError, match=rf"^{tmp_path}: none of its pictures \(1\) is for the split '{split}'"):
            data.load(tmp_path, split)


@pytest.mark.parametrize("train", ["train", "Train", "TRAIN", "training"])
@pytest.mark.parametrize("validation", ["val", "Valid", "validation", "VAL"])
@pytest.mark.parametrize("test", ["test", "Test", "testing"])
def test_a_folder_may_be_divided_into_its_splits(tmp_path: Path, train: str, validation: str, test: str) -> None:
    names = (f"{train}/b/1.png", f"{train}/c/1.png", f"{validation}/b/1.png", f"{validation}/c/1.png")
    for level, name in enumerate((*names, f"{test}/b/1.png", f"{test}/c/1.png")):
        write(tmp_path / name, level)
    for at, split in enumerate(SPLITS):
        read = data.load(tmp_path, split)
        assert levels(read) == [2 * at, 2 * at + 1]
        assert read.classes == ("b", "c")
        assert named(read) == ["b", "c"]


def test_splits_without_classes_have_no_labels(tmp_path: Path) -> None:
    for level, name in enumerate(("train/1.png", "val/1.png", "test/1.png")):
        write(tmp_path / name, level)
    for at, split in enumerate(SPLITS):
        read = data.load(tmp_path, split)
        assert levels(read) == [at]
        assert (read.labels, read.classes) == (None, ())


def test_a_flat_test_beside_classes_has_no_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for level, name in enumerate(("Train/a/1.png", "Train/b/1.png", "Valid/a/1.png", "Valid/b/1.png", "Test/1.png")):
        write(tmp_path / name, level)
    train, test = data.load(tmp_path, "train"), data.load(tmp_path, "test")
    assert (levels(train), named(train)) == ([0, 1], ["a", "b"])
    assert (levels(test), test.labels, test.classes) == ([4], None, ())
    said = f"{tmp_path}: Test has no folders of classes, so its pictures have no labels\n"
    assert capsys.readouterr().err == said


def test_validation_is_held_out_of_train_where_it_has_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level in range(12):
        write(tmp_path / "train" / f"{level:02}.png", level)
    write(tmp_path / "test" / "t.png", 99)
    assert levels(data.load(tmp_path, "train")) == [0, 1, 2, *range(4, 12)]
    assert levels(data.load(tmp_path, "validation")) == [3]
    assert levels(data.load(tmp_path, "test")) == [99]
    said = capsys.readouterr().err
    assert said == f"{tmp_path}: no folder validation, so 1 of the 12 in train are held out\n"


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train" / "1.png", 1)
    write(tmp_path / "val" / "1.png", 1)
    with pytest.raises(DataError, match="has no subfolder 'test', only train, val"):
        data.load(tmp_path, "test")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for level in range(5):
        write(tmp_path / "train" / f"{level}.png", 1)
        write(tmp_path / "plane" / f"{level}.png", 2)
    read = data.load(tmp_path, "test")
    assert (read.classes, levels(read), named(read)) == (("plane", "train"), [2, 1], ["plane", "train"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("train/1.png", "test/1.png", "spare/1.png"), "{}: holds spare beside test, train; keep splits or classes"),
        (("train/a/1.png", "train/b/1.png", "plane/1.png"), "{}: holds plane beside train"),
        (("train/1.png", "test/1.png", "3.png"), "{}/3.png: lies beside the folders test, train"),
        (("Train/1.png", "train/2.png", "test/3.png"), "{}: holds Train, test, train, of which two mean the same"),
        (("val/1.png", "validation/1.png", "train/1.png"), "{}: holds train, val, validation, of which two mean"),
        (("a/train/1.png", "b/train/1.png"), "{}/a: holds folders of splits (train) where classes are looked for"),
        (("set/a/train/1.png",), "{}/set: holds folders of splits (train)"),
        (("set/train/1.png", "set/test/1.png"), "{}/set: holds folders of splits (test, train)"),
        (("all/1.png", "all/2.png"), "{}: has a single class, all; if that is the data set, pass its path"),
        (("set/a/1.png", "set/b/1.png"), "{}: has a single class, set; if that is the data set, pass its path"),
        (
            ("a/1.gif", "a/2.gif", "b/1.png"),
            "{}: has a single class, b; a holds files that are not read: 2 (.gif); if that is the data set, pass its",
        ),
        (("train/a/1.png", "train/b/1.png", "test/a/1.png"), "{}/test: lacks the classes b, which another split has"),
        (("train/a/1.png", "test/a/1.png", "test/c/1.png"), "{}/train: lacks the classes c, which"),
        (("train/Cat/1.png", "test/cat/1.png"), "{}/test: lacks the classes Cat, which"),
        (("a/1.png", "b/1.png", "stray.png"), "{}/stray.png: lies beside the folders of classes"),
        (("train/a/1.png", "train/b/1.png", "train/stray.png"), "{}/train/stray.png: lies beside the folders of"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    for name in files:
        write(tmp_path / name, 1)
    for split in SPLITS:
        with pytest.raises(DataError, match=f"^{re.escape(message.format(tmp_path))}"):
            data.load(tmp_path, split)


def test_an_empty_folder_stands_for_a_class_without_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level, name in enumerate(("train/a/1.png", "train/b/1.png", "val/a/1.png", "test/b/1.png")):
        write(tmp_path / name, level)
    for name in ("val/b", "test/a", "train/c", "test/deep/er"):
        (tmp_path / name).mkdir(parents=True)
    assert data.load(tmp_path, "train").classes == data.load(tmp_path, "test").classes == ("a", "b")
    assert named(data.load(tmp_path, "validation")) == ["a"]
    assert named(data.load(tmp_path, "test")) == ["b"]
    said = f"{tmp_path}: folders without pictures: 5 (test/a, test/deep, test/deep/er, ...)\n"
    assert capsys.readouterr().err == said


def test_a_folder_of_files_that_are_not_read_is_no_class_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "val", "test"):
        for level, name in enumerate(("a/1.png", "b/1.png", "c/1.gif", "c/2.gif", "c/.hidden.gif")):
            write(tmp_path / split / name, level)
    assert data.load(tmp_path, "train").classes == ("a", "b")
    assert f"{tmp_path}: train/c holds files that are not read: 2 (.gif)\n" in capsys.readouterr().err


def test_what_lies_deeper_belongs_to_the_outermost_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for level, name in enumerate(("cat/z.png", "cat/old/1.png", "cat/old/er/1.png", "dog/new/1.png")):
        write(tmp_path / "train" / name, level)
    write(tmp_path / "val" / "dog" / "1.png", 9)
    write(tmp_path / "val" / "cat" / "1.png", 8)
    train = data.load(tmp_path, "train")
    assert (levels(train), named(train)) == ([1, 2, 0, 3], ["cat", "cat", "cat", "dog"])
    within = "train/cat/old, train/cat/old/er, train/dog/new"
    said = f"{tmp_path}: folders within those of classes, read as parts of them: 3 ({within})\n"
    assert capsys.readouterr().err == said


def test_folders_are_not_followed_for_ever(tmp_path: Path) -> None:
    write(tmp_path.joinpath("a", *"d" * layout.DEEPEST, "1.png"), 1)
    with pytest.raises(DataError, match=f"lies more than {layout.DEEPEST} folders deep"):
        data.load(tmp_path)


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_picture_that_is_reached_twice_is_refused(tmp_path: Path, link: Any) -> None:
    write(tmp_path / "train" / "1.png", 1)
    write(tmp_path / "test" / "2.png", 2)
    link(tmp_path / "train" / "1.png", tmp_path / "test" / "3.png")
    with pytest.raises(DataError, match=rf"^{tmp_path}/train/1\.png: is {tmp_path}/test/3\.png again, by a link"):
        data.load(tmp_path)


@pytest.mark.parametrize("target", [".", "train"])
def test_a_folder_that_is_reached_twice_is_refused(tmp_path: Path, target: str) -> None:
    write(tmp_path / "train" / "a" / "1.png", 1)
    (tmp_path / "val").symlink_to(tmp_path / target)
    with pytest.raises(DataError, match="again, by a link; remove one"):
        data.load(tmp_path)


def test_a_link_from_elsewhere_is_followed_and_one_to_nothing_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for level in range(3):
        write(tmp_path / "elsewhere" / f"{level}.png", level)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "test").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "lost.png").symlink_to(tmp_path / "nothing")
    assert levels(data.load(tmp_path / "set", "test")) == [0, 1, 2]
    assert "files that are no pictures by their names, left out: 1 (lost.png)" in capsys.readouterr().err


def test_sixteen_bits_and_transparency_are_read(tmp_path: Path) -> None:
    (tmp_path / "test").mkdir()
    Image.fromarray(np.full((3, 4), 257 * 9, np.uint16)).save(tmp_path / "test" / "a.png")
    Image.new("LA", (4, 3)).save(tmp_path / "test" / "b.png")
    assert levels(data.load(tmp_path, "test")) == [9, 255]


def test_what_is_left_out_is_counted_and_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "train" / "1.png", 1)
    write(tmp_path / "val" / "1.png", 1)
    for name in ("notes.txt", "val/1.gif", "val/.hidden.png", "train/raw.heic"):
        (tmp_path / name).write_text("not read")
    for _ in range(2):
        for split in ("train", "validation"):
            assert levels(data.load(tmp_path, split)) == [1]
    said = f"{tmp_path}: files that are no pictures by their names, left out: 4 (notes.txt, train/raw.heic, val/.hidden"
    assert capsys.readouterr().err == f"{said}.png, ...)\n"


@pytest.mark.parametrize(
    ("mode", "size", "message"),
    [
        ("L", (5, 3), "b.png: is grey, 5 x 3 pixels, but a.png is grey, 4 x 3 pixels"),
        ("L", (3, 4), "b.png: is grey, 3 x 4 pixels"),
        ("RGB", (4, 3), "b.png: is in colour, 4 x 3 pixels, but a.png is grey"),
    ],
)
def test_names_the_first_image_that_differs(tmp_path: Path, mode: str, size: tuple[int, int], message: str) -> None:
    write(tmp_path / "a.png", 1)
    write(tmp_path / "b.png", 1, mode, size)
    with pytest.raises(DataError, match=message):
        data.load(tmp_path)


def test_pictures_that_differ_are_listed_and_the_options_named(tmp_path: Path) -> None:
    for at, (mode, size) in enumerate([("L", (4, 3))] * 3 + [("RGB", (4, 3))] * 2 + [("L", (9, 9))]):
        write(tmp_path / "train" / f"{at}.png", 1, mode, size)
    listed = "3 grey, 4 x 3 pixels; 2 in colour, 4 x 3 pixels; 1 grey, 9 x 9 pixels"
    with pytest.raises(DataError, match=rf"pass size=\(height, width\) and channels=1 or 3 .*there are {listed}$"):
        data.load(tmp_path)


def test_size_and_channels_make_them_alike(tmp_path: Path) -> None:
    write(tmp_path / "train" / "a.png", 51, "L", (4, 3))
    write(tmp_path / "train" / "b.png", 102, "RGB", (8, 6))
    tall = np.repeat(np.uint8([0, 153, 153, 0]), 4)[:, None].repeat(4, 1)
    Image.fromarray(tall).save(tmp_path / "train" / "c.png")
    colour = data.load(tmp_path, "train", size=(3, 4), channels=3)
    assert colour.shape == (3, 3, 4)
    assert levels(colour) == [51, 102, 153]
    assert torch.equal(colour.images[:2].flatten(1).amax(1), torch.tensor([0.2, 0.4]))
    assert data.load(tmp_path, "train", size=(3, 4), channels=1).shape == (1, 3, 4)
    with pytest.raises(DataError, match=r"b\.png: is in colour, 4 x 3 pixels, but a\.png is grey"):
        data.load(tmp_path, "train", size=(3, 4))
    with pytest.raises(DataError, match=r"b\.png: is in colour, 8 x 6 pixels, but a\.png is in colour, 4 x 3"):
        data.load(tmp_path, "train", channels=3)


def test_pictures_of_the_right_size_are_not_touched(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    (tmp_path / "train").mkdir()
    Image.fromarray(pixels).save(tmp_path / "train" / "a.png")
    expected = torch.tensor(pixels.transpose(2, 0, 1) / 255, dtype=torch.float32)
    assert torch.equal(data.load(tmp_path, "train", size=(3, 4), channels=3).images[0], expected)


@pytest.mark.parametrize("content", [b"", b"GIF89a", None])
def test_names_a_damaged_image(tmp_path: Path, content: bytes | None) -> None:
    write(tmp_path / "a.png", 1)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30] if content is None else content)
    with pytest.raises(DataError, match=r"b\.png: is "):
        data.load(tmp_path)


def write_some_bad(folder: Path) -> list[str]:
    """Twelve pictures of which four cannot be used; their names."""
    for level in range(12):
        write(folder / "train" / "ab"[level % 2] / f"{level:02}.png", level)
    (folder / "train" / "b" / "01.png").write_bytes(b"")
    broken = folder / "train" / "b" / "05.png"
    broken.write_bytes(broken.read_bytes()[:-30])
    frames = [Image.new("L", (4, 3), level) for level in (0, 255)]
    frames[0].save(folder / "train" / "a" / "04.png", save_all=True, append_images=frames[1:])
    write(folder / "train" / "a" / "06.png", 6, "RGB", (9, 9))
    return ["a/04.png", "a/06.png", "b/01.png", "b/05.png"]


def test_bad_pictures_are_skipped_when_told_to_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write_some_bad(tmp_path)
    train = data.load(tmp_path, "train", skip_bad=True)
    assert levels(train) == [0, 2, 8, 10, 7, 9, 11]
    assert named(train) == ["a"] * 4 + ["b"] * 3
    said = capsys.readouterr().err
    assert f"{len(bad)} of 11 pictures cannot be used and are left out:\n" in said
    assert [line for line in said.splitlines() if ".png: is" in line] == [
        f"{tmp_path}/train/a/04.png: is animated or has several pages; save one of them",
        f"{tmp_path}/train/a/06.png: is in colour, 9 x 9 pixels, but 00.png is grey, 4 x 3 pixels",
        *(line for line in said.splitlines() if "b/01.png: is not a PNG, JPEG" in line),
        *(line for line in said.splitlines() if "b/05.png: is damaged" in line),
    ]


def test_bad_pictures_are_counted_listed_and_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write_some_bad(tmp_path)
    with pytest.raises(
        DataError, match=r"a/06\.png: is in colour, 9 x 9 .*--skip-bad.*; there are 7 grey, 4 x 3 pixels; 1"
    ):
        data.load(tmp_path, "train")
    (tmp_path / "train" / bad[1]).unlink()
    with pytest.raises(
        DataError, match=r"a/04\.png: is animated .*\(3 of 11 cannot be used\); skip_bad \(--skip"
    ) as caught:
        data.load(tmp_path, "train")
    assert "\n" not in str(caught.value)
    said = capsys.readouterr().err
    assert "3 of 11 pictures cannot be used:\n" in said
    assert all(f"{tmp_path}/train/{name}: is" in said for name in (bad[0], *bad[2:]))


def test_where_most_are_bad_none_is_skipped(tmp_path: Path) -> None:
    for name in "abcd":
        write(tmp_path / "train" / f"{name}.png", 1, size=(4, 3) if name == "a" else (5, 3))
    with pytest.raises(DataError, match=r"b\.png: is grey, 5 x 3 .*there are 3 grey, 5 x 3 pixels; 1 grey, 4 x 3"):
        data.load(tmp_path, skip_bad=True)
    for name in "abcd":
        (tmp_path / "train" / f"{name}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: is not a .*; no other of the 4 pictures can be read either"):
        data.load(tmp_path, skip_bad=True)


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"^{tmp_path}: holds no pictures \(\.png, \.jpg, "):
        data.load(tmp_path)


def test_a_class_whose_name_is_not_utf_8_is_named(tmp_path: Path) -> None:
    for name in (b"caf\xe9", b"bar"):
        folder = os.path.join(os.fsencode(tmp_path), b"train", name)
        os.makedirs(folder)
        Image.new("L", (4, 3)).save(Path(os.fsdecode(folder)) / "1.png")
    with pytest.raises(DataError, match=r"^'caf\\udce9': is no name in UTF-8; rename it$"):
        data.load(tmp_path)


def test_size_and_channels_are_for_pictures_only(tmp_path: Path) -> None:
    for options in ({"size": (3, 4)}, {"channels": 1}, {"skip_bad": True}):
        with pytest.raises(DataError, match="mnist: size, channels and skip_bad are for folders of pictures"):
            data.load("mnist", "test", **options)
    with pytest.raises(ValueError, match="channels must be 1 or 3, not 4"):
        data.load(tmp_path, channels=4)
    with pytest.raises(ValueError, match=r"size must be \(height, width\), not \(3, 0\)"):
        data.load(tmp_path, size=(3, 0))


def test_reads_real_digits_back(tmp_path: Path) -> None:
    digits = data.load("mnist", "test")[:24]
    assert digits.labels is not None
    for number, (image, label) in enumerate(zip(digits.images, digits.labels.tolist(), strict=True)):
        folder = tmp_path / "test" / str(label)
        folder.mkdir(exist_ok=True, parents=True)
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(folder / f"{number:02}.png")
    read = data.load(tmp_path, "test")
    order = torch.argsort(digits.labels, stable=True)
    assert torch.equal(read.images, digits.images[order])
    assert named(read) == [str(label) for label in digits.labels[order].tolist()]
