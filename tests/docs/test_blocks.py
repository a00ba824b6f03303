"""Every block of code of the documentation runs: here, or in the test that its page has."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.efforts import shorten
from torch import nn
from typer.testing import CliRunner

import carso
from carso import weights
from carso.commands import cli
from carso.types import OUTPUT

pytestmark = pytest.mark.whole

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "README.md": "test_readme.py",
    "audit.md": "audit/test_documented.py",
    "other-libraries.md": "audit/test_documented.py",
    "rivals.md": "rivals/test_page.py",
    "serving.md": "serve/test_page.py",
    "several-machines.md": "processes/test_page.py",
    "your-own-classifier.md": "commands/test_page.py",
}
"""The tests of pages whose code needs more than to be run."""

HERE = ("sharing.md", "watching.md")
OWN = """import carso
from torch import nn

def build():
    return nn.Sequential(carso.load("mnist-thesis").classifier)
"""


def pages() -> dict[str, str]:
    """The text of every page, by its path from docs/."""
    found = {"README.md": ROOT / "README.md"}
    found |= {str(path.relative_to(ROOT / "docs")): path for path in (ROOT / "docs").rglob("*.md")}
    return {name: path.read_text(encoding="utf-8") for name, path in found.items()}


def blocks(page: str) -> list[tuple[str, str]]:
    """Language and text of each block of a page."""
    found: list[tuple[str, str]] = re.findall(r"^```([\w-]*)\n(.*?)^```$", pages()[page], re.DOTALL | re.MULTILINE)
    return found


def test_every_page_with_code_has_a_test_and_every_block_a_language() -> None:
    with_code = {page for page in pages() if blocks(page)}
    assert with_code == {*ELSEWHERE, *HERE}
    for page, test in ELSEWHERE.items():
        assert page in (ROOT / "tests" / test).read_text(encoding="utf-8")
    for page in HERE:
        assert {language for language, _ in blocks(page)} <= {"python", "sh", "text"}


@pytest.mark.parametrize("page", HERE)
def test_the_code_of_a_page_runs(page: str, tmp_path: Path) -> None:
    """As a reader runs it: the commands, then all of the Python in one process."""
    if page == "watching.md":
        pytest.importorskip("tensorboard")
    for text in (text for language, text in blocks(page) if language == "text" and text.startswith("name: tiny")):
        (tmp_path / "tiny.yaml").write_text(text)
    lines = [shlex.split(line) for language, text in blocks(page) if language == "sh" for line in text.splitlines()]
    run = [["-m", *line] for line in lines]
    code = "\n".join(text for language, text in blocks(page) if language == "python")
    for each in [*run, ["-c", code]]:
        answer = subprocess.run([sys.executable, *each], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert answer.returncode == 0, answer.stderr


@pytest.mark.slow
def test_the_commands_of_the_audits_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shorten(monkeypatch, "standard", n=4)
    for package, module in (("my_package", "defences"), ("my_package", "models")):
        Path(package).mkdir(exist_ok=True)
        (Path(package) / f"{module}.py").write_text(OWN)
    names: dict[str, object] = {}
    exec(OWN, names)
    own = names["build"]()  # type: ignore[operator]
    assert isinstance(own, nn.Module)
    known = carso.load("mnist-thesis")
    layers = [layer if layer == OUTPUT else f"0.{layer}" for layer in known.representation.layers]
    weights.save(carso.CARSO(own, known.purifier, layers, samples=10), Path("out/mine"))
    (text,) = (text for language, text in blocks("audit.md") if language == "sh")
    commands = [shlex.split(line, comments=True) for line in text.splitlines()]
    assert [command[2] for command in commands] == [
        "mnist",
        "mnist/classifier",
        "my_package.defences:build",
        "out/mine",
    ]
    for _, *arguments in commands:
        told = ["mnist" if argument == "DIR" else argument for argument in arguments]
        told += ["--eps", "0.3"] if "my_package" in " ".join(told) else []
        answer = CliRunner().invoke(cli.app, told)
        assert answer.exit_code in (0, 3), (told, answer.output, answer.exception)
