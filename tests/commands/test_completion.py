"""The shell completes names, as typer asks for them, and the names are the library's."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carso import attacks, data
from carso.commands import cli, completion
from carso.storage import weights
from carso.training import reading


def completed(line: str) -> list[str]:
    """What bash is told after a line whose last word is being typed."""
    asked = {"_CARSO_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    return CliRunner().invoke(cli.app, [], prog_name="carso", env=asked).output.split()


def test_the_names_are_those_of_the_library() -> None:
    assert completion.recipes() == reading.shipped()
    assert completion.defences() == [*weights.DEFAULTS, *weights.shipped()]
    alone = [name for name in weights.shipped(weights.CLASSIFIER) if name not in weights.shipped()]
    assert completion.targets() == [*completion.defences(), *(f"{name}/classifier" for name in alone)]
    assert completion.DATA == data.NAMES
    assert tuple(attacks.ATTACKS) == completion.ATTACKS


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("carso rep", ["reproduce", "report"]),
        ("carso train ", ["classifier", "purifier"]),
        ("carso reproduce the", ["thesis"]),
        ("carso reproduce abl", ["ablations"]),
        ("carso recipe show quick-", ["quick-mish"]),
        ("carso attack mnist-t", ["mnist-thesis"]),
        ("carso audit mnist-s", ["mnist-strong", "mnist-strong-contrast"]),
        ("carso audit mnist-r", ["mnist-robust-cnn/classifier"]),
        ("carso attack mnist-r", []),
        ("carso predict x.png --defence mnist-r", ["mnist-robust-cnn/classifier"]),
        ("carso predict x.png --defence mnist-t", ["mnist-thesis"]),
        ("carso serve mnist-t", ["mnist-thesis"]),
        ("carso evaluate --data cifar", ["cifar10", "cifar100"]),
        ("carso attack --attack s", ["square", "spsa"]),
        ("carso attack --directed-at d", ["defence"]),
        ("carso evaluate out/", []),
    ],
)
def test_a_word_is_completed(line: str, found: list[str]) -> None:
    assert completed(line) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_asks_carso(shell: str) -> None:
    asked = {"_CARSO_COMPLETE": f"source_{shell}"}
    script = CliRunner().invoke(cli.app, [], prog_name="carso", env=asked).output
    assert "_CARSO_COMPLETE=complete_" + shell in script


def test_bash_takes_the_script_and_a_tab_needs_no_torch(tmp_path: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    code = "import sys; from carso.commands.cli import app; app(prog_name='carso'); assert 'torch' not in sys.modules"
    (tmp_path / "carso").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    (tmp_path / "carso").chmod(0o755)
    typed = f"""PATH={tmp_path}:$PATH; eval "$(_CARSO_COMPLETE=source_bash carso)"; complete -p carso
    COMP_WORDS=(carso reproduce th); COMP_CWORD=2; _carso_completion carso; echo "${{COMPREPLY[@]}}" """
    answer = subprocess.run([bash, "-c", typed], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["complete -o default -F _carso_completion carso", "thesis"]
