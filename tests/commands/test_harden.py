"""From a function and a folder of pictures to a measured, audited and exported defence, by one command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.efforts import shorten
from typer.testing import CliRunner, Result

import carso
from carso import progress
from carso.commands import cli
from carso.errors import CarsoError, ModelError, RunError
from carso.hardening import Request, hardening, proposal
from carso.training import design
from carso.training.recipe import PurifierSpec

pytestmark = pytest.mark.whole

MODELS = """import torch
from torch import nn

def build():
    network = nn.Sequential(nn.Flatten(), nn.ReLU(inplace=True), nn.Linear(36, 3))
    with torch.no_grad():
        network[2].weight.copy_(torch.eye(3)[[0, 2, 1]].repeat_interleave(12, 1))
        network[2].bias.zero_()
    return network

def two():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 2))

def many():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 1000))

def drawn():
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 3))

def scripted():
    return torch.jit.script(build())
"""
BUILD = "models_for_harden:build"
BARS = ("above", "below", "middle")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, arguments)


def harden(minutes: str = "600", out: str = "out", data: str = "pictures") -> Result:
    return run("harden", BUILD, "--data", data, "--eps", "8/255", "--minutes", minutes, "--out", out)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the user's module, and pictures with a bright bar."""
    folder = tmp_path_factory.mktemp("harden")
    generator = torch.Generator().manual_seed(0)
    for top, name in zip((0, 4, 2), BARS, strict=True):
        for index in range(12):
            picture = 0.4 * torch.rand(6, 6, generator=generator)
            picture[top : top + 2] += 0.3
            path = folder / "pictures" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((255 * picture).byte().numpy()).save(path)
    (folder / "models_for_harden.py").write_text(MODELS)
    return folder


@pytest.fixture(autouse=True)
def small(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything as short as it can be."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(progress, "_display", progress._Display())
    monkeypatch.setattr(proposal, "EPOCHS", (1, 2))
    monkeypatch.setattr(proposal, "BATCH", 16)
    monkeypatch.setattr(design, "DENSE_SAMPLES", 20)
    monkeypatch.setattr(hardening, "export", lambda defence, path, *_, **__: path.write_bytes(b"onnx") and path)
    shorten(monkeypatch, "quick", tuning=4)


@pytest.fixture(scope="module")
def done(place: Path) -> Result:
    with pytest.MonkeyPatch.context() as patch:
        small.__wrapped__(place, patch)
        return harden()


def test_everything_is_there_at_the_end(done: Result) -> None:
    assert done.exit_code in (0, 3), done.output
    made = {path.name for path in Path("out").iterdir()}
    files = {
        "recipe.yaml",
        "plan.json",
        "purifier.safetensors",
        "choice.json",
        "results.json",
        "report.html",
        "audit.json",
        "classifier",
        "defence.onnx",
    }
    assert files <= made
    found = json.loads(Path("out/results.json").read_text())
    assert found["adversarial"] is False
    rows = found["rows"]
    attacks = [(row["attack"], round(row["eps"], 4), row["directed_at"]) for row in rows]
    crafted = [(attack, 0.0314, "classifier") for attack in ("fgsm", "pgd", "deepfool")]
    assert attacks == [("none", 0, "classifier"), *crafted, ("pgd-eot", 0.0314, "defence")]
    assert [row["foreseen"] for row in rows] == [True, True, True, False, True]
    for path in ("out/audit.json", "out/classifier/audit.json"):
        assert json.loads(Path(path).read_text())["budgets"][0]["eps"] == pytest.approx(8 / 255)


def test_without_labels_the_classifiers_own_answers_are_what_is_to_be_kept(place: Path) -> None:
    (place / "flat").mkdir()
    for picture in (place / "pictures").rglob("*.png"):
        shutil.copy(picture, place / "flat" / f"{picture.parent.name}-{picture.name}")
    answer = harden(out="flat-out", data="flat")
    assert answer.exit_code in (0, 3), answer.output
    found = json.loads(Path("flat-out/results.json").read_text())
    clean = found["rows"][0]
    assert clean["attack"] == "none"
    assert clean["adversarially_trained"]["correct"] == clean["adversarially_trained"]["total"] == found["n"]


def test_the_plan_comes_first_and_the_conclusion_last(done: Result) -> None:
    out = done.stdout
    said = ["classifier  ", "images      ", "purifier    dense", "training    purifier", "training    hardening"]
    said += [
        "choice      ",
        "evaluation  ",
        "audit       quick",
        "in all      about",
        "The purifier is kept after its ",
        "Thesis's protocol",
        "Attacks on the whole of each",
    ]
    said += ["Audit of the whole of each (quick), n = ", "worst case of the audit"]
    places = [out.index(words) for words in said]
    assert places == sorted(places)
    assert "pictures: 27 to learn from, 3 held out, 6 to test on; 1 x 6 x 6" in out
    assert "a Sequential of 111 weights and 3 classes; right on 3 of 3 held-out images" in out
    assert "ONNX: " in done.stderr
    assert "report: out/report.html" in done.stderr


def test_the_same_command_does_nothing_twice(done: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.safetensors")}
    monkeypatch.setattr("carso.training.experiment.fit", lambda *_: pytest.fail("training began"))
    monkeypatch.setattr("carso.hardening.hardening.cost_of", lambda *_: pytest.fail("planned anew"))
    again = harden()
    assert again.exit_code == done.exit_code
    first, second = (answer.stdout[answer.stdout.index("Thesis's protocol") :] for answer in (done, again))
    assert first == second
    unmoved = {path for path in before if path.name.startswith("purifier")}
    assert all(path.stat().st_mtime_ns == before[path] for path in unmoved)


def test_the_file_for_serving_is_of_the_runs_seed_and_may_be_missing(
    done: Result, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def refused(*_: object, **told: object) -> Path:
        asked.update(told)
        raise ModelError("it does not run")

    monkeypatch.setattr(hardening, "export", refused)
    Path("out/defence.onnx").unlink()
    again = harden(out=str(Path("out").resolve()))
    assert again.exit_code == done.exit_code
    assert asked == {"seed": 0, "name": "out"}
    assert "ONNX: none: it does not run" in again.stderr
    assert "report: " in again.stderr
    Path("out/defence.onnx").write_bytes(b"onnx")


def test_a_file_for_serving_of_something_else_is_made_anew(done: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("out/defence.onnx")
    path.write_text("hello")
    assert harden().exit_code == done.exit_code
    assert path.read_bytes() == b"onnx"
    monkeypatch.setattr(hardening, "is_export_of", lambda *_: True)
    monkeypatch.setattr(hardening, "export", lambda *_, **__: pytest.fail("exported anew"))
    assert "ONNX: out/defence.onnx" in harden().stderr


def test_a_disk_that_takes_no_file_for_serving_ends_the_run(done: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Path:
        raise RunError("cannot write out/defence.onnx: No space left on device")

    monkeypatch.setattr(hardening, "export", full)
    assert "No space left" in str(harden().exception)


def test_another_command_is_refused(done: Result) -> None:
    answer = run("harden", BUILD, "--data", "pictures", "--eps", "4/255", "--minutes", "600", "--out", "out")
    assert isinstance(answer.exception, CarsoError)
    assert "holds the run of another command (other eps); choose another --out" in str(answer.exception)


def test_weights_of_no_known_recipe_are_not_taken_for_the_runs(place: Path) -> None:
    (place / "left").mkdir()
    (place / "left" / "purifier.safetensors").write_bytes(b"left")
    answer = harden(out="left")
    assert isinstance(answer.exception, CarsoError)
    assert "left holds weights of no known recipe; choose another --out" in str(answer.exception)


def test_too_little_time_says_the_least() -> None:
    answer = harden(minutes="0.01", out="short")
    assert isinstance(answer.exception, CarsoError)
    assert "--minutes 0.01 is too short for anything; the least that would do is --minutes " in str(answer.exception)
    assert not Path("short").exists()


def test_a_classifier_of_too_few_classes_is_refused() -> None:
    answer = run("harden", "models_for_harden:two", "--data", "pictures", "--eps", "8/255", "--out", "two")
    assert "the classifier knows 2 classes, pictures has 3" in str(answer.exception)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("many", "pictures: has 3 classes ('above', 'below', 'middle'), the model 1000 without names"),
        ("drawn", "'models_for_harden:drawn' returns other weights in every call; load them in it, or seed it"),
    ],
)
def test_a_classifier_that_training_would_be_lost_on_is_refused_before_anything_is_planned(
    function: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardening, "cost_of", lambda *_: pytest.fail("planned"))
    answer = run("harden", f"models_for_harden:{function}", "--data", "pictures", "--eps", "8/255", "--out", "lost")
    assert isinstance(answer.exception, CarsoError)
    assert message in str(answer.exception)
    assert not Path("lost").exists()


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is")
def test_a_network_that_shows_no_layers_is_hardened_by_those_that_are_named() -> None:
    told = ("harden", "models_for_harden:scripted", "--data", "pictures", "--eps", "8/255", "--minutes", "0.01")
    assert "name the layers (`layers`; --layers of carso harden" in str(run(*told, "--out", "shy").exception)
    named = run(*told, "--out", "shy", "--layers", "input", "--layers", "output")
    assert "is too short for anything" in str(named.exception)
    unknown = run(*told, "--out", "shy", "--layers", "middle")
    assert "the classifier has no layer 'middle'" in str(unknown.exception)


@pytest.mark.parametrize("eps", ["-1", "0", "8"])
def test_a_radius_that_cannot_be_is_refused(eps: str) -> None:
    answer = run("harden", BUILD, "--data", "pictures", "--eps", eps, "--out", "radius")
    assert isinstance(answer.exception, CarsoError)
    assert f"eps must lie in (0, 1] for Linf, not {eps}: images" in str(answer.exception)


def test_a_radius_beyond_the_images_is_refused_before_anything_is_planned() -> None:
    answer = run("harden", BUILD, "--data", "pictures", "--eps", "6.1", "--norm", "L2", "--out", "radius")
    assert isinstance(answer.exception, CarsoError)
    assert "eps must lie in (0, 6] for L2, not 6.1" in str(answer.exception)


@pytest.mark.parametrize("odd", ["validation", "test"])
def test_splits_of_several_sizes_are_refused_before_anything_is_planned(place: Path, odd: str) -> None:
    for split in ("train", "validation", "test"):
        shutil.copytree(place / "pictures", place / f"odd-{odd}" / split)
    for path in (place / f"odd-{odd}" / odd).rglob("*.png"):
        Image.open(path).resize((9, 9)).save(path)
    answer = harden(out=f"odd-{odd}-out", data=f"odd-{odd}")
    assert isinstance(answer.exception, CarsoError)
    assert f"the images of {odd} are (1, 9, 9), those of train (1, 6, 6); pictures of a folder" in str(answer.exception)
    assert "--size 6x6" in str(answer.exception)


def test_the_defence_loads_with_the_function(done: Result) -> None:
    defence = carso.load("out", carso.storage.factory.module(BUILD))
    assert defence.class_names == BARS
    assert defence.samples == 20


def test_pictures_of_several_sizes_are_made_alike_where_that_is_said(place: Path) -> None:
    shutil.copytree(place / "pictures", place / "mixed")
    first = sorted((place / "mixed" / "above").iterdir())[0]
    Image.open(first).resize((9, 9)).save(first)
    told = ("harden", BUILD, "--data", "mixed", "--eps", "8/255", "--minutes", "0.01", "--out", "mixed-out")
    assert "--size, --channels, or in a recipe" in str(run(*told).exception)
    assert "is too short for anything" in str(run(*told, "--size", "6x6").exception)
    assert Request.of("a:b", "mixed", (0.1,), "Linf", 1.0, 0, size=(6, 6)).fitting == {"size": (6, 6)}
    made = proposal.proposed("x", "a:b", "mixed", (0.1,), "Linf", 0, PurifierSpec(), size=(6, 6), skip_bad=True)
    assert (made.size, made.channels, made.skip_bad) == ((6, 6), None, True)
