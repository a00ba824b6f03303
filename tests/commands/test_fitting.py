"""Pictures of a folder are made alike as the command line says, or as they were for the training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from carso import data
from carso.commands import cli
from carso.commands.options import CANDIDATES, fitting
from carso.commands.shared import images_of
from carso.errors import CarsoError, DataError
from carso.storage.headers import Origin
from carso.vote import MOST


@pytest.mark.parametrize(
    ("told", "found"),
    [
        ((None, None, False), {}),
        (("28x32", None, False), {"size": (28, 32)}),
        (("28x32", 3, True), {"size": (28, 32), "channels": 3, "skip_bad": True}),
    ],
)
def test_only_what_is_said_is_passed_on(told: tuple[Any, ...], found: dict[str, Any]) -> None:
    assert fitting(*told) == found


def test_the_command_line_knows_the_most_candidates_without_the_library() -> None:
    assert CANDIDATES == MOST


@pytest.mark.parametrize(("told", "message"), [(("28", None), "--size: a size is height x width"), ((None, 2), "--ch")])
def test_what_is_no_size_is_named(told: tuple[Any, Any], message: str) -> None:
    with pytest.raises(CarsoError, match=message):
        fitting(*told, False)


def test_the_pictures_of_the_training_are_made_alike_as_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = Origin(data="photos", size=(48, 64), channels=3)
    for written in ("photos", "photos/", "./photos", str(tmp_path / "photos")):
        assert images_of(own, written, {}) == (written, {"size": (48, 64), "channels": 3})
    for other in ("others", "photos/more", "mnist"):
        assert images_of(own, other, {}) == (other, {})
    assert images_of(Origin(data="./mnist", size=(8, 8)), "mnist", {}) == ("mnist", {})
    assert images_of(Origin(data="mnist/", size=(8, 8)), "./mnist", {}) == ("./mnist", {"size": (8, 8)})


def test_data_of_the_training_that_are_not_here_are_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    own = Origin(data="photos", size=(48, 64))
    assert images_of(own, None, {}) == ("photos", {"size": (48, 64)})
    monkeypatch.chdir(tmp_path / "photos")
    with pytest.raises(
        DataError, match=r"^photos: neither a folder .* trained on, as seen .*; --data names where it is"
    ):
        images_of(own, None, {})


def _pictures(folder: Path, **sides: int) -> None:
    """Grey pictures of two classes, those of each split with so many pixels a side."""
    for split, side in sides.items():
        for number in range(4):
            path = folder / split / "ab"[number % 2] / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (side, side), 40 * number).save(path)


RECIPE = """name: x
data: set
adversarial: {epochs: 1, batch: 2, rate: 0.1}
purification: {epochs: 1, batch: 2, rate: 0.1}
"""


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"train": 8, "val": 8}, "set: .*test"),
        ({"train": 8, "val": 8, "test": 9}, r"set: the images of test are \(1, 9, 9\), .* so by --size 8x8, or in"),
        ({"train": 8, "val": 9, "test": 8}, r"set: the images of validation are \(1, 9, 9\), .* so by --size 8x8, or"),
    ],
)
def test_splits_that_are_not_alike_are_refused_before_anything_is_trained(
    sides: dict[str, int], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("carso.training.experiment.fit", lambda *_: pytest.fail("training began"))
    _pictures(tmp_path / "set", **sides)
    (tmp_path / "x.yaml").write_text(RECIPE)
    found = CliRunner().invoke(cli.app, ["reproduce", "x.yaml", "--out", "out"])
    assert isinstance(found.exception, DataError)
    assert re.search(message, str(found.exception))
    assert not (tmp_path / "out" / "recipe.yaml").exists()


def test_one_option_leaves_the_others_as_in_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    own = Origin(data="photos", size=(48, 64), channels=3)
    assert images_of(own, None, {"skip_bad": True}) == (
        "photos",
        {"size": (48, 64), "channels": 3, "skip_bad": True},
    )
    assert images_of(own, None, {"size": (8, 8)}) == ("photos", {"size": (8, 8), "channels": 3})
    assert images_of(own, "others", {"channels": 1}) == ("others", {"channels": 1})
    assert images_of(Origin(), None, {}) == ("mnist", {})


@pytest.mark.parametrize("verb", ["evaluate", "attack", "audit", "export", "demo"])
def test_every_verb_that_reads_images_takes_the_options(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def load(name: str, split: str, **options: Any) -> data.Dataset:
        asked.update(options)
        raise DataError("seen")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "load", load)
    told = ["--data", "photos", "--size", "28x28", "--channels", "1", "--skip-bad"]
    found = CliRunner().invoke(cli.app, [verb, "mnist", *told])
    assert isinstance(found.exception, DataError)
    assert asked == {"size": (28, 28), "channels": 1, "skip_bad": True}


def test_coloured_pictures_of_any_size_are_attacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = data.load("mnist", "test")[:6]
    for number, (image, label) in enumerate(zip(digits.images, digits.required_labels.tolist(), strict=True)):
        path = tmp_path / "set" / "test" / str(label) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        levels = Image.fromarray((255 * image[0]).byte().numpy()).convert("RGB")
        levels.resize((28 * (number + 1), 28 * (number + 1)), Image.Resampling.NEAREST).save(path)
    (tmp_path / "set" / "test" / "0" / "bad.png").parent.mkdir(exist_ok=True)
    (tmp_path / "set" / "test" / "0" / "bad.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    pairs = tmp_path / "pairs.npz"
    told = ["--data", "set", "--size", "28x28", "--channels", "1", "--skip-bad", "--out", str(pairs)]
    found = CliRunner().invoke(
        cli.app, ["attack", "mnist", "--attack", "fgsm", "--images", "6", "--samples", "20", *told]
    )
    assert found.exit_code == 0, found.output
    assert "n = 6" in found.output
    clean = data.load_pairs(pairs)
    order = np.argsort(digits.required_labels.numpy(), kind="stable")
    assert (clean.clean - digits.images[order]).abs().mean() < 0.02


def test_the_first_of_a_folder_are_of_all_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digits = data.load("mnist", "test")[:200]
    for label in (1, 4, 7):
        (tmp_path / "set" / "test" / str(label)).mkdir(parents=True)
        for number in (digits.required_labels == label).nonzero().flatten()[:4].tolist():
            levels = Image.fromarray((255 * digits.images[number, 0]).byte().numpy())
            levels.save(tmp_path / "set" / "test" / str(label) / f"{number:03}.png")
    monkeypatch.chdir(tmp_path)
    told = ["--data", "set", "--images", "6", "--samples", "20", "--out", "pairs.npz"]
    found = CliRunner().invoke(cli.app, ["attack", "mnist", "--attack", "fgsm", *told])
    assert found.exit_code == 0, found.output
    assert data.load_pairs("pairs.npz").labels.tolist() == [1, 4, 7, 1, 4, 7]


def test_classes_that_are_called_otherwise_are_not_guessed_to_be_those_of_mnist() -> None:
    for names in (None, tuple("0123456789")):
        assert images_of(Origin(names=names), None, {}) == ("mnist", {})
    named = Origin(names=("coat", "bag"))
    with pytest.raises(DataError, match=r"the classes 'coat', 'bag' are of data that are not known; name .* by --data"):
        images_of(named, None, {})
    assert images_of(named, "mine", {}) == ("mine", {})
    assert images_of(named.model_copy(update={"data": "fashion-mnist"}), None, {}) == ("fashion-mnist", {})
