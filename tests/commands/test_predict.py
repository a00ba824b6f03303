import os
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import carso
from carso.commands.cli import app, main
from carso.commands.predict import render
from carso.errors import DataError, ModelError
from carso.evaluation.prediction import Prediction, classified, predict
from carso.nn import MLP
from carso.rivals import files
from carso.rivals.kinds import RivalSpec, build
from carso.storage import weights


def test_pictures_are_read_and_answered(tmp_path: Path) -> None:
    test = carso.data.load("mnist", "test")
    paths = []
    for i in range(3):
        pixels = (test.images[i, 0] * 255).round().byte().numpy()
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(paths[-1])
    found = predict(carso.load("mnist"), paths)
    assert [p.label for p in found] == test.required_labels[:3].tolist()
    for p in found:
        assert sum(p.shares) == pytest.approx(1)
        assert p.samples >= 20
    wide, narrow = Console(record=True, width=300), Console(record=True, width=80)
    render(found, wide)
    text = wide.export_text()
    assert all(str(path) in text for path in paths)
    render(found, narrow)
    assert "…" not in narrow.export_text()


def test_an_aggregation_decides_the_answer_and_stops_at_no_sample_before_the_last(tmp_path: Path) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    defence = carso.load("mnist")
    defence.samples, defence.aggregation = 30, "mean-logit"
    (found,) = predict(defence, [tmp_path / "black.png"], seed=3)
    generators = (torch.Generator().manual_seed(3) for _ in range(2))
    black = torch.zeros(1, 1, 28, 28)
    logits = defence.logits(black, latents=defence.latents(generator=next(generators)))
    assert found.label == logits.mean(1).argmax().item()
    assert found.samples == 30
    assert found.shares == pytest.approx((defence.votes(black, next(generators)) / 30)[0].tolist())


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.png"):
        predict(carso.load("mnist"), [tmp_path / "x.png"])


def test_classes_are_called_by_their_names() -> None:
    known = Prediction(Path("a.png"), 1, (0.25, 0.75), 8, ("cat", "ship"))
    console = Console(record=True, width=120)
    render([known], console)
    assert "ship 75.0 % cat 25.0 % 8" in " ".join(console.export_text().split())


def test_names_are_shown_as_they_are_whatever_brackets_they_hold() -> None:
    known = Prediction(Path("in[bold]box/a.png"), 1, (0.25, 0.75), 8, ("[/x]", "[unknown]"))
    console = Console(record=True, width=120)
    render([known], console)
    assert "in[bold]box/a.png [unknown] 75.0 % [/x] 25.0 % 8" in " ".join(console.export_text().split())


def test_a_file_whose_name_is_no_text_is_answered_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = [os.fsencode(tmp_path / "a.png"), os.fsencode(tmp_path) + b"/\xff.png"]
    for path in named:
        with open(path, "wb") as file:
            Image.new("L", (28, 28)).save(file, "png")
    monkeypatch.setattr(sys, "argv", ["carso", "predict", *map(os.fsdecode, named)])
    monkeypatch.setenv("COLUMNS", "300")
    with (tmp_path / "output").open("w", encoding="utf-8") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    text = (tmp_path / "output").read_text(encoding="utf-8")
    assert "a.png" in text
    assert "\\udcff.png" in text


def test_clothes_are_not_taken_for_digits(tmp_path: Path) -> None:
    defence = carso.load("fashion")
    pixels = torch.rand(28, 28, generator=torch.Generator().manual_seed(0)) / 4 + 0.7
    pixels[8:20, 4:24] = 0.1
    Image.fromarray((pixels * 255).byte().numpy()).resize((280, 280)).save(tmp_path / "bag.png")
    seen: list[torch.Tensor] = []
    defence.classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    predict(defence, [tmp_path / "bag.png"], stop="never")
    assert 0.6 < seen[0].mean().item() < 0.7


def test_a_plain_classifier_answers_too_and_turns_away_what_it_is_unsure_of(tmp_path: Path) -> None:
    test = carso.data.load("mnist", "test")
    for name, image in (("digit", test.images[0]), ("two", test.images[:2].mean(0))):
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(tmp_path / f"{name}.png")
    classifier = carso.load_model("mnist/classifier")
    shutil.copytree(weights.find("mnist"), tmp_path / "alone")
    (tmp_path / "alone" / weights.PURIFIER).unlink()
    with torch.no_grad():
        sure = 100 * classifier(test.images[:1]).softmax(1).max().item()
    for source in ("mnist/classifier", f"{tmp_path}/alone/classifier"):
        told = ["predict", str(tmp_path / "digit.png"), str(tmp_path / "two.png"), "--defence", source]
        answer = CliRunner().invoke(app, [*told, "--reject-at", "0.2"], env={"COLUMNS": "300"})
        assert answer.exit_code == 0, answer.output
        heading, digit, unsure = answer.stdout.splitlines()
        assert "probability of others" in heading
        assert "samples" not in heading
        assert f" {test.required_labels[0]} " in digit
        assert f"{sure:.1f} %" in digit
        assert "turned away (" in unsure


def test_what_is_no_saved_defence_and_no_classifier_of_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "models_to_predict", SimpleNamespace(network=lambda: MLP((1, 28, 28), (5,))))
    spec, network = RivalSpec(kind="classifier"), MLP((1, 28, 28), (5,))
    files.save(build(spec, network, (1, 28, 28), 10), spec, network, tmp_path / "classifier")
    for source in ("models_to_predict:network", f"{tmp_path}/classifier"):
        refused = CliRunner().invoke(app, ["predict", "one.png", "--defence", source])
        assert str(refused.exception).endswith(f"or a classifier of one; {source} is neither")


def test_the_images_and_classes_of_a_classifier_are_those_of_its_defence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carso.data, "load", Mock(side_effect=AssertionError("no image is needed")))
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    for part in ("classifier", "undefended"):
        given = ["predict", str(tmp_path / "black.png"), "--defence", f"fashion/{part}"]
        answer = CliRunner().invoke(app, given, env={"COLUMNS": "300"})
        assert answer.exit_code == 0, answer.output
        assert {*answer.stdout.split()} & {name.split()[0] for name in carso.load("fashion").class_names or ()}


def test_many_pictures_are_asked_about_in_chunks_and_only_all_names_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carso.evaluation.prediction.chunk_of", lambda shape: 2)
    Image.new("L", (8, 8)).save(tmp_path / "black.png")
    network, sizes = MLP((1, 8, 8), (5,), 3).eval(), []
    found = classified(network, [tmp_path / "black.png"] * 5, (1, 8, 8), ("a", "b"))
    network.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    assert classified(network, [tmp_path / "black.png"] * 5, (1, 8, 8), ("a", "b", "c"))[0].names == ("a", "b", "c")
    assert sizes[-3:] == [2, 2, 1]
    assert [p.names for p in found] == [("0", "1", "2")] * 5
    with pytest.raises(ModelError, match=r"cannot run on images of shape \(1, 9, 9\)"):
        classified(network, [tmp_path / "black.png"], (1, 9, 9))


def test_a_defence_without_thresholds_is_given_them_by_held_out_images(tmp_path: Path) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    defence = carso.load("mnist")
    defence.calibration = None
    weights.save(defence, tmp_path / "bare", {"recipe": {"data": "mnist"}})
    given = ["predict", str(tmp_path / "black.png"), "--defence", str(tmp_path / "bare"), "--samples", "20"]
    answer = CliRunner().invoke(app, [*given, "--reject-at", "0.2"])
    assert answer.exit_code == 0, answer.exception


def test_pictures_may_be_turned_away(tmp_path: Path) -> None:
    test, noise = carso.data.load("mnist", "test"), torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(0))
    for name, image in (("digit", test.images[0]), ("noise", noise)):
        Image.fromarray((image[0] * 255).round().byte().numpy()).save(tmp_path / f"{name}.png")
    arguments = ["predict", str(tmp_path / "digit.png"), str(tmp_path / "noise.png"), "--reject-at"]
    answer = CliRunner().invoke(app, [*arguments, "0.2"])
    assert answer.exit_code == 0
    assert answer.stdout.count("turned away (") == 1
    refused = CliRunner().invoke(app, [*arguments, "0.5"])
    assert "the rate of false alarms must be above 0 and at most 0.2, not 0.5" in str(refused.exception)
