from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from carso import data
from carso.data import Dataset
from carso.errors import DataError


def write(path: Path, level: int, mode: str = "L", size: tuple[int, int] = (4, 3)) -> None:
    """A picture (width, height) of a single level."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, level).convert(mode).save(path)


def levels(dataset: Dataset) -> list[int]:
    return (dataset.images[:, 0, 0, 0] * 255).round().int().tolist()


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for level in (3, 1, 2):
        write(tmp_path / f"{level}.png", level)
    read = data.load(tmp_path, "test")
    assert levels(read) == [1, 2, 3]
    assert read.shape == (1, 3, 4)
    assert read.labels is None
    assert read.classes == ()


def test_subfolders_are_classes_in_the_order_of_their_names(tmp_path: Path) -> None:
    for level, name in enumerate(("zebra/a.png", "ape/2.JPG", "ape/1.jpeg", "cat/x.PNG")):
        write(tmp_path / name, level * 10, "RGB")
    read = data.load(tmp_path, "test")
    assert read.classes == ("ape", "cat", "zebra")
    assert read.labels is not None
    assert read.labels.tolist() == [0, 0, 1, 2]
    assert levels(read) == [20, 10, 30, 0]
    assert read.shape == (3, 3, 4)


def test_every_twelfth_image_is_held_out(tmp_path: Path) -> None:
    for number in range(26):
        write(tmp_path / f"{'ab'[number % 2]}" / f"{number:02}.png", number)
    train, validation, test = (data.load(tmp_path, split) for split in ("train", "validation", "test"))
    assert len(validation) == 2
    assert sorted(levels(train) + levels(validation)) == sorted(levels(test)) == list(range(26))
    assert levels(validation) == [levels(test)[11], levels(test)[23]]
    assert validation.classes == train.classes == ("a", "b")


def test_too_few_images_to_hold_one_out(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match="no PNG or JPEG pictures for the split 'validation'"):
        data.load(tmp_path, "validation")


def test_a_folder_may_be_divided_into_its_splits(tmp_path: Path) -> None:
    for level, name in enumerate(("train/b/1.png", "train/c/1.png", "validation/c/1.png", "test/a/1.png")):
        write(tmp_path / name, level)
    for split, found, labels in (("train", [0, 1], [1, 2]), ("validation", [2], [2]), ("test", [3], [0])):
        read = data.load(tmp_path, split)
        assert levels(read) == found
        assert read.labels is not None
        assert read.labels.tolist() == labels
        assert read.classes == ("a", "b", "c")


def test_validation_is_held_out_of_train_where_it_has_no_folder(tmp_path: Path) -> None:
    for level in range(12):
        write(tmp_path / "train" / f"{level:02}.png", level)
    write(tmp_path / "test" / "t.png", 99)
    assert levels(data.load(tmp_path, "train")) == list(range(11))
    assert levels(data.load(tmp_path, "validation")) == [11]
    assert levels(data.load(tmp_path, "test")) == [99]


def test_a_split_that_is_not_there_is_named(tmp_path: Path) -> None:
    write(tmp_path / "train" / "1.png", 1)
    with pytest.raises(DataError, match="has no subfolder 'test', only train"):
        data.load(tmp_path, "test")


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write(tmp_path / "train" / "1.png", 1)
    write(tmp_path / "plane" / "1.png", 2)
    assert data.load(tmp_path, "test").classes == ("plane", "train")


def test_sixteen_bits_and_transparency_are_read(tmp_path: Path) -> None:
    Image.fromarray(np.full((3, 4), 257 * 9, np.uint16)).save(tmp_path / "a.png")
    Image.new("LA", (4, 3)).save(tmp_path / "b.png")
    assert levels(data.load(tmp_path, "test")) == [9, 255]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "1.png", 1)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_text("nor this")
    assert len(data.load(tmp_path, "test")) == 1


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
        data.load(tmp_path, "test")


def test_names_a_damaged_image(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"b\.png: is "):
        data.load(tmp_path, "test")


def test_names_an_image_beside_the_classes(tmp_path: Path) -> None:
    write(tmp_path / "a" / "1.png", 1)
    write(tmp_path / "stray.png", 1)
    with pytest.raises(DataError, match=r"stray\.png: lies beside the folders of classes"):
        data.load(tmp_path, "test")


def test_an_empty_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: holds no PNG or JPEG pictures"):
        data.load(tmp_path)


def test_reads_real_digits_back(tmp_path: Path) -> None:
    digits = data.load("mnist", "test")[:24]
    assert digits.labels is not None
    for number, (image, label) in enumerate(zip(digits.images, digits.labels.tolist(), strict=True)):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(tmp_path / str(label) / f"{number:02}.png")
    read = data.load(tmp_path, "test")
    order = torch.argsort(digits.labels, stable=True)
    assert torch.equal(read.images, digits.images[order])
    assert read.labels is not None
    assert [read.classes[label] for label in read.labels] == [str(label) for label in digits.labels[order].tolist()]
