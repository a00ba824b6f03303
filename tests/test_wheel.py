"""The wheel, installed with nothing but the requirements of the core, works from an empty folder."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from PIL import Image

from carso import data

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
SOURCES = ("pyproject.toml", "README.md", "LICENSE")

SEEN_IN_A_NOTEBOOK = """
import carso
from pathlib import Path
from carso.audit.results import Audit
from carso.evaluation import read_results

defence = carso.load("mnist")
images = carso.data.load("mnist", "test").images[:2]
audit = next((Path(carso.__file__).parent / "assets/weights").rglob("audit.json"))
for shown in (
    read_results(Path("run")),
    Audit.model_validate_json(audit.read_text()),
    carso.show(defence, images, samples=3),
):
    assert shown._repr_html_().startswith("<div"), shown
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder with a picture of a seven."""
    empty = tmp_path_factory.mktemp("empty")
    seven = data.load("mnist", "test")[:1].images[0, 0]
    Image.fromarray((seven * 255).byte().numpy()).save(empty / "seven.png")
    return empty


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of an environment with the wheel, built from a copy so that no earlier build is packed along."""
    place = tmp_path_factory.mktemp("wheel")
    copy = place / "copy"
    shutil.copytree(ROOT / "src" / "carso", copy / "src" / "carso", ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copy(ROOT / name, copy)
    pip("wheel", "--no-deps", "-w", place, copy)
    venv.create(place / "env", with_pip=True)
    made = place / "env" / "bin" / "python"
    pip("install", "-c", ROOT / "constraints.txt", *place.glob("*.whl"), python=made)
    return made


def pip(*arguments: str | Path, python: str | Path = sys.executable) -> None:
    answer(Path.cwd(), python, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)


def answer(folder: Path, *line: str | Path) -> str:
    """What a command prints that sees no sources of ours."""
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(line, cwd=folder, env=bare, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_help_by_either_name(python: Path, folder: Path) -> None:
    script = answer(folder, python.with_name("carso"), "--help")
    module = answer(folder, python, "-m", "carso", "--help")
    assert "predict" in script
    assert script.split("\n")[2:] == module.split("\n")[2:]


def test_a_picture_is_classified(python: Path, folder: Path) -> None:
    assert answer(folder, python, "-m", "carso", "predict", "seven.png").split("seven.png")[1].split()[0] == "7"


def test_results_audits_and_recollections_show_in_a_notebook(python: Path, folder: Path) -> None:
    answer(folder, python, "-m", "carso", "evaluate", "mnist-thesis", "--images", "10", "--out", "run")
    assert (folder / "run" / "report.html").exists()
    answer(folder, python, "-W", "error", "-c", SEEN_IN_A_NOTEBOOK)
