"""Every classifier of `examples/`, on real photographs, through the commands of docs/your-own-classifier.md."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from benchmarks.own import absent
from benchmarks.own.pictures import pictures
from tests.efforts import shorten
from typer.testing import CliRunner, Result

from carso.commands import cli
from carso.hardening import proposal

ROOT = Path(__file__).parents[2]
RECIPE = """name: {model}
data: pictures
classifier: {{factory: "own_models:{model}"}}
adversarial: {{epochs: 1, batch: 16, rate: 0.001, clean: false, attacks: [{{attack: n-fgsm, eps: 8/255}}]}}
"""


@pytest.fixture
def timm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    absent.stand_in()
    pytest.importorskip("timm")
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == absent.NAME]:
        del sys.modules[name]


def run(*arguments: str) -> Result:
    answer = CliRunner().invoke(cli.app, arguments)
    assert answer.exit_code in (0, 3), (arguments, answer.output, answer.exception)
    return answer


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with the models; everything as short as it can be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(proposal, "EPOCHS", (1, 1))
    shorten(monkeypatch, "quick", "standard", n=10)
    shutil.copy(ROOT / "examples" / "own_models.py", tmp_path)
    monkeypatch.delitem(sys.modules, "own_models", raising=False)


def hardened(model: str) -> dict[str, object]:
    """Train, then `defended`."""
    Path("own.yaml").write_text(RECIPE.format(model=model))
    run("train", "classifier", "own.yaml", "--out", f"own/{model}")
    return defended(model, "pictures")


def defended(model: str, data: str) -> dict[str, object]:
    """Harden, audit, export, predict; what the evaluation wrote."""
    pytest.importorskip("onnxruntime")
    own, images = ("--factory", f"own_models:{model}"), ("--data", data, "--eps", "8/255")
    run("harden", f"own_models:{model}", *images, "--minutes", "600", "--out", "out")
    run("audit", "out", *own, *images, "--out", "out-audit")
    run("export", "out", *own, "--data", data, "--out", "own.onnx")
    run("predict", str(next(Path(data).rglob("*.*"))), "--defence", "out", *own)
    found: dict[str, object] = json.loads(Path("out/results.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet", "normalised"])
def test_plain_networks(model: str) -> None:
    pictures(Path("pictures"))
    assert hardened(model)["n"] == 10


@pytest.mark.slow
def test_a_model_of_timm(timm: None) -> None:
    pictures(Path("pictures"))
    assert hardened("timm_resnet")["n"] == 10


@pytest.mark.slow
def test_a_model_of_transformers() -> None:
    pytest.importorskip("transformers")
    pictures(Path("pictures"))
    assert hardened("transformers_vit")["n"] == 10


@pytest.mark.slow
def test_oblong_jpegs() -> None:
    pictures(Path("pictures"), (64, 48), ".jpg")
    assert hardened("resnet")["n"] == 10


@pytest.mark.slow
def test_pictures_without_labels() -> None:
    pictures(Path("pictures"), (16, 16))
    pictures(Path("unlabelled"), (16, 16), classes=False)
    Path("own.yaml").write_text(RECIPE.format(model="resnet"))
    run("train", "classifier", "own.yaml", "--out", "own/resnet")
    assert defended("resnet", "unlabelled")["n"] == 10
