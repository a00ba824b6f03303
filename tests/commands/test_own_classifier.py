"""A defence of a user's own classifier, from its training to every verb of the command line."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from PIL import Image
from tests.efforts import resize
from torch import Tensor
from typer.testing import CliRunner, Result

from carso.commands import cli
from carso.errors import CarsoError

pytestmark = pytest.mark.whole

MODELS = """import torch
from torch import nn

def build(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10), nn.ReLU(), nn.Linear(10, 3)
        return nn.Sequential(*layers)

def other():
    return build(seed=1)

def number():
    return 3
"""
RECIPE = """name: mine
data: {data}
samples: 40
classifier: {{factory: "own_models_for_this_test:build"}}
purification: {{epochs: 1, batch: 20, rate: 0.01}}
"""
FACTORY = ("--factory", "own_models_for_this_test:build")


def idx(values: Tensor) -> bytes:
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return header + bytes(values.flatten().tolist())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with data, the user's module and the purifier of `build`, trained by the command line."""
    folder = tmp_path_factory.mktemp("own")
    generator = torch.Generator().manual_seed(0)
    (folder / "data").mkdir()
    for part, count in (("train", 120), ("t10k", 20)):
        images = torch.randint(256, (count, 8, 8), generator=generator)
        (folder / "data" / f"{part}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / "data" / f"{part}-labels-idx1-ubyte").write_bytes(idx(images.flatten(1).sum(1) % 3))
    Image.fromarray(images[0].byte().numpy()).save(folder / "one.png")
    (folder / "own_models_for_this_test.py").write_text(MODELS)
    (folder / "mine.yaml").write_text(RECIPE.format(data=folder / "data"))
    (folder / "plain.yaml").write_text(
        RECIPE.format(data=folder / "data") + "undefended: {epochs: 1, batch: 20, rate: 0.01}\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert run("train", "purifier", "mine.yaml", "--out", "mine").exit_code == 0
    return folder


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def test_a_recipe_that_names_code_is_told_before_it_runs(capfd: pytest.CaptureFixture[str]) -> None:
    Path("loud_model_for_this_test.py").write_text("import os\nos.write(2, b'runs')\n" + MODELS)
    Path("loud.yaml").write_text(RECIPE.format(data="data").replace("own_models", "loud_model"))
    answer = run("train", "purifier", "loud.yaml", "--out", "loud")
    assert answer.exit_code == 0
    assert "loud.yaml has the function 'loud_model_for_this_test:build' run (classifier.factory)" in answer.stderr
    assert capfd.readouterr().err == "runs"


def test_the_function_of_an_option_needs_no_word() -> None:
    answer = run("predict", "one.png", "--defence", "mine", *FACTORY)
    assert answer.exit_code == 0
    assert "classifier.factory" not in answer.stderr


def test_diverged_training_is_an_error_and_leaves_no_weights() -> None:
    section = "{epochs: 2, batch: 20, rate: 1e30, attacks: [{attack: fgsm, eps: 0.1}]}"
    Path("hot.yaml").write_text(f"name: hot\ndata: data\nadversarial: {section}\n")
    answer = run("train", "classifier", "hot.yaml", "--out", "hot")
    assert isinstance(answer.exception, CarsoError)
    assert "adversarial training diverged in epoch 1 of 2: its loss is nan at rate 1e+30" in str(answer.exception)
    assert sorted(path.name for path in Path("hot").iterdir()) == ["recipe.yaml"]


def test_predict_answers_with_it() -> None:
    answer = run("predict", "one.png", "--defence", "mine", *FACTORY)
    assert answer.exit_code == 0
    assert "one.png" in answer.output


def test_the_number_of_candidates_may_be_chosen() -> None:
    assert run("predict", "one.png", "--defence", "mine", "--samples", "7", *FACTORY).output.split()[-1] == "7"
    answer = run("audit", "own_models_for_this_test:build", "--samples", "7", "--data", "data", "--out", "no")
    assert "--samples is for a defence that votes, which a Sequential does not" in str(answer.exception)


def test_training_takes_it_for_the_default(place: Path) -> None:
    assert run("train", "purifier", "mine.yaml", "--samples", "9", "--out", "nine").exit_code == 0
    assert run("predict", "one.png", "--defence", "nine", *FACTORY).output.split()[-1] == "9"


def test_evaluate_attacks_it() -> None:
    answer = run("evaluate", "mine", "--data", "data", "--images", "5", "--out", "evaluated", *FACTORY)
    assert answer.exit_code == 0
    found = json.loads(Path("evaluated/results.json").read_text())
    assert set(found["weights"]) == {"adversarially_trained", "carso"}
    assert found["adversarial"] is False
    assert "Classifier alone" in Path("evaluated/report.html").read_text()


def test_evaluate_has_a_column_for_the_undefended_network_too(place: Path) -> None:
    shutil.copytree("mine", "both")
    assert run("train", "classifier", "plain.yaml", "--out", "plain").exit_code == 0
    shutil.copy("plain/undefended.safetensors", "both")
    answer = run("evaluate", "both", "--data", "data", "--images", "5", "--out", "columns", *FACTORY)
    assert answer.exit_code == 0
    found = json.loads(Path("columns/results.json").read_text())["weights"]
    assert set(found) == {"undefended", "adversarially_trained", "carso"}


def test_evaluate_takes_the_classifier_alone() -> None:
    given = ("mine/classifier", "--data", "data", "--images", "5", *FACTORY)
    answer = run("evaluate", *given, "--out", "alone")
    assert answer.exit_code == 0, answer.output
    rows = json.loads(Path("alone/results.json").read_text())["rows"]
    columns = ("undefended", "adversarially_trained", "carso")
    assert [[column for column in columns if row[column]] for row in rows] == [["adversarially_trained"]] * len(rows)
    assert Path("alone/report.html").exists()
    refused = run("evaluate", *given, "--samples", "9", "--out", "refused")
    assert "--samples is for a defence that votes" in str(refused.exception)


def test_a_classifier_without_a_purifier_is_asked_too_by_its_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    named = "named_models_for_this_test"
    Path(f"{named}.py").write_text(MODELS + "def named():\n    n = build()\n    n.class_names = 'ABC'\n    return n\n")
    stage = "adversarial: {epochs: 1, batch: 20, rate: 0.01, attacks: [{attack: fgsm, eps: 0.1}]}\n"
    Path("stage1.yaml").write_text(RECIPE.format(data="data") + stage)
    assert run("train", "classifier", "stage1.yaml", "--out", "stage1").exit_code == 0
    given, factory = ("stage1/classifier", "--data", "data"), ("--factory", f"{named}:named")
    answer = run("predict", "one.png", "--defence", "stage1/classifier", *factory)
    assert answer.exit_code == 0, answer.exception
    assert {*"ABC"} & {*answer.output.split()}
    assert run("evaluate", *given, "--images", "5", "--out", "staged", *FACTORY).exit_code == 0
    monkeypatch.setattr("carso.audit.audit", Mock(side_effect=CarsoError("enough")))
    assert str(run("audit", *given, "--eps", "0.1", *FACTORY).exception) == "enough"


def test_evaluate_turns_away_what_the_classifier_alone_is_unsure_of_in_a_folder_of_its_own() -> None:
    given = ("evaluate", "mine/classifier", "--data", "data", "--images", "20", *FACTORY)
    assert run(*given).exit_code == 0
    answer = run(*given, "--reject-at", "0.2")
    assert answer.exit_code == 0, answer.output
    names = ("out/evaluate-mine-classifier", "out/evaluate-mine-classifier-reject-at-0.2")
    all_, sure = (json.loads(Path(f"{name}/results.json").read_text()) for name in names)
    assert sure["weights"] == all_["weights"]
    for believing, row in zip(all_["rows"], sure["rows"], strict=True):
        assert row["adversarially_trained"] == believing["adversarially_trained"]
        assert believing["believed"] is None
        assert (row["believed"]["false_alarms"], row["believed"]["turned_away"]["total"]) == (0.2, 20)


def test_evaluate_corrupts_images_in_place_of_attacks() -> None:
    given = ("evaluate", "mine/classifier", "--data", "data", "--images", "5", *FACTORY, "--corruptions")
    answer = run(*given, "--out", "corrupted")
    assert answer.exit_code == 0, answer.output
    rows = json.loads(Path("corrupted/results.json").read_text())["rows"]
    assert {row["norm"] for row in rows} == {None, "severity"}
    page = Path("corrupted/report.html").read_text()
    assert "Accuracy under corruption" in page
    assert "crafted on" not in page
    Path("corrupted/report.html").unlink()
    assert run("report", "corrupted").exit_code == 0
    assert Path("corrupted/report.html").read_text() == page
    refused = run(*given, "--eps", "0.1", "--out", "refused")
    assert "leave out --eps and --norm" in str(refused.exception)


def test_evaluate_takes_what_a_function_returns(place: Path) -> None:
    answer = run("evaluate", "own_models_for_this_test:build", "--data", "data", "--images", "5")
    assert answer.exit_code == 0, answer.output
    rows = json.loads(Path("out/evaluate-own_models_for_this_test-build/results.json").read_text())["rows"]
    assert all(row["others"].keys() == {"classifier"} for row in rows)


def test_data_and_radii_are_those_of_the_training(place: Path) -> None:
    attacks = "epochs: 1, batch: 20, rate: 0.01, attacks: [{attack: fgsm, eps: 8/255}]"
    Path("near.yaml").write_text(RECIPE.format(data="data").replace("epochs: 1, batch: 20, rate: 0.01", attacks))
    assert run("train", "purifier", "near.yaml", "--out", "near").exit_code == 0
    assert run("evaluate", "near", "--images", "5", "--out", "table", *FACTORY).exit_code == 0
    found = json.loads(Path("table/results.json").read_text())
    assert found["dataset"] == "data"
    assert {row["eps"] for row in found["rows"]} == {0, 4 / 255, 8 / 255}
    assert [row["attack"] for row in found["rows"] if row["foreseen"]] == ["none", "fgsm"]
    assert all(row["thesis"] is None for row in found["rows"])
    answer = run("attack", "near", "--attack", "fgsm", "--images", "5", *FACTORY)
    assert "fgsm Linf 8/255 directed at the classifier, n = 5" in answer.output
    told = run("evaluate", "near", "--eps", "0.02", "--images", "5", "--out", "told", *FACTORY)
    assert told.exit_code == 0
    assert {row["eps"] for row in json.loads(Path("told/results.json").read_text())["rows"]} == {0, 0.02}


def test_an_audit_that_turns_images_away_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    folders: list[str] = []

    def audit(*_: object, out: Path, **__: object) -> None:
        folders.append(out.name)
        raise CarsoError("enough")

    monkeypatch.setattr("carso.audit.audit", audit)
    for rate in ([], ["--reject-at", "0.2"], ["--reject-at", "0.1"]):
        run("audit", "mine/classifier", "--eps", "0.1", "--data", "data", *rate, *FACTORY)
    own = "audit-mine-classifier"
    assert folders == [own, f"{own}-reject-at-0.2", f"{own}-reject-at-0.1"]


@pytest.mark.parametrize("part", ["", "/classifier"])
def test_audit_attacks_it_and_its_classifier(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"n": 20, "tuning": 10, "steps": (5,), "restarts": (1, 1), "plain": 5, "queries": 10, "spsa": (2, 2)}
    resize(monkeypatch, "quick", **sizes, spsa_images=2)
    out = Path(f"audited{len(part)}")
    answer = run(
        "audit", f"mine{part}", "--effort", "quick", "--eps", "0.1", "--data", "data", "--out", str(out), *FACTORY
    )
    assert answer.exit_code in (0, 3)
    assert json.loads((out / "audit.json").read_text())["target"] == f"mine{part}"


def test_export_proves_it() -> None:
    pytest.importorskip("onnxruntime")
    answer = run("export", "mine", "--data", "data", "--out", "mine.onnx", *FACTORY)
    assert answer.exit_code == 0
    assert Path("mine.onnx").stat().st_size > 0


@pytest.mark.parametrize("asked", [("mine/classifier",), ("mine", "--classifier")])
def test_a_classifier_alone_is_exported_without_candidates(asked: tuple[str, ...]) -> None:
    answer = run("export", *asked, "--samples", "5", "--data", "data", *FACTORY)
    assert "--samples is for a defence that votes, which a classifier alone does not" in str(answer.exception)


def test_export_names_its_file_as_the_folder_even_from_within(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[Path] = []
    monkeypatch.setattr("carso.storage.export.export", lambda model, path, *_, **__: written.append(path))
    monkeypatch.chdir("mine")
    answer = run("export", ".", "--data", str(place / "data"), *FACTORY)
    assert answer.exit_code == 0
    assert written == [Path("out/mine.onnx")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--factory own_models_for_this_test:build"),
        (("--factory", "own_models_for_this_test:other"), "trained for a classifier with other weights"),
        (("--factory", "own_models_for_this_test:number"), "returned int, not an nn.Module"),
        (("--factory", "own_models_for_this_test:absent"), "cannot be imported"),
    ],
)
@pytest.mark.parametrize(
    "verb",
    [
        ("predict", "one.png", "--defence", "mine"),
        ("evaluate", "mine", "--data", "data"),
        ("audit", "mine", "--data", "data"),
        ("audit", "mine/classifier", "--data", "data"),
        ("attack", "mine", "--data", "data"),
        ("export", "mine", "--data", "data"),
    ],
)
def test_without_its_classifier_every_verb_says_what_to_add(
    verb: tuple[str, ...], arguments: tuple[str, ...], message: str
) -> None:
    answer = run(*verb, *arguments)
    assert isinstance(answer.exception, CarsoError)
    assert message in str(answer.exception)


def test_nothing_is_run_on_the_word_of_a_file(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The factory's name stands in the weights; only the option calls it."""
    monkeypatch.delitem(sys.modules, "own_models_for_this_test", raising=False)
    (place / "own_models_for_this_test.py").write_text("raise SystemExit('was run')")
    assert "belongs to a classifier of your own" in str(run("predict", "one.png", "--defence", "mine").exception)
    assert "was run" in str(run("predict", "one.png", "--defence", "mine", *FACTORY).exception)
    (place / "own_models_for_this_test.py").write_text(MODELS)
