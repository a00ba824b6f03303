"""The README's commands and code, run."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from carso.training.reading import parse_recipe

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()
LONG = ("carso reproduce quick",)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


COMMANDS = [line.split("#")[0].strip() for block in blocks("sh") for line in block.splitlines() if line.strip()]


def test_make_targets_exist_and_the_default_commands_come_first() -> None:
    made = [command.split()[1] for command in COMMANDS if command.startswith("make ")]
    assert made == ["run", "test"]
    rules = (ROOT / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", rules, re.MULTILINE) for target in made)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("carso ") and not c.startswith(LONG)])
def test_commands_run(command: str, tmp_path: Path) -> None:
    line = [sys.executable, "-m", "carso", *shlex.split(command)[1:]]
    answer = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip()


def test_code_runs_and_its_comments_tell_the_shapes() -> None:
    (code,) = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    told = re.findall(r"^(defence\..*?)\s+# \(([\d, ]+)\)", code, re.MULTILINE)
    assert told
    for expression, shape in told:
        found = eval(expression, names)
        assert isinstance(found, torch.Tensor)
        assert list(found.shape) == [int(size) for size in shape.split(",") if size.strip()]


def test_the_recipe_of_the_page_is_one() -> None:
    page = (ROOT / "docs" / "your-own-classifier.md").read_text()
    (text,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert parse_recipe(text, "the page").name == yaml.safe_load(text)["name"]


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", TEXT)
    assert targets
    assert not [target for target in targets if not (ROOT / target).exists()]


def test_the_audits_table_tells_the_committed_audits() -> None:
    table = TEXT.split("<!-- audits -->")[1].split("<!-- /audits -->")[0]
    told = [float(figure) for figure in re.findall(r"\| (\d+\.\d) \[", table)]
    results = ROOT / "benchmarks" / "results"
    apart = ("ladder/robust-cnn-0.15", "ladder/robust-cnn")
    plain = ("strong-audit/control", "ladder/thesis-contrast")
    subjects = ("strong-audit/adversarially_trained", "thesis-audit/carso", "strong-audit/carso")
    contrast = ("ladder/strong-contrast-classifier", "strong-contrast-audit/carso")
    places = [apart, *((place,) for place in (*plain, *subjects, *contrast))]
    found = []
    for runs in places:
        budgets = [each for run in runs for each in json.loads((results / run / "audit.json").read_text())["budgets"]]
        found += [budgets[0]["clean"], *(budget["worst_case"] for budget in budgets)]
    assert told == [round(figure["accuracy"], 1) for figure in found]
