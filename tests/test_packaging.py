"""What the package imports is what it says it needs."""

import ast
import re
import sys
import tomllib
from pathlib import Path

from benchmarks.runs.least_versions import least

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml"}
"""Where a distribution has another name than its module."""


def project() -> dict[str, list[str]]:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = found["optional-dependencies"]
    return {"": found["dependencies"], **{name: wanted for name, wanted in extras.items() if name != "dev"}}


def imported() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return {DISTRIBUTIONS.get(name, name) for name in found - {*sys.stdlib_module_names, "carso"}}


def test_every_import_is_a_requirement() -> None:
    named = {re.split(r"[><=\[]", requirement)[0] for wanted in project().values() for requirement in wanted}
    assert imported() <= named


def test_every_requirement_of_the_core_has_a_lower_bound_and_is_imported() -> None:
    core = project()[""]
    assert all(re.fullmatch(r"[\w.-]+>=[\w.]+", requirement) for requirement in core)
    assert {requirement.split(">=")[0] for requirement in core} <= imported()


def test_least_versions_are_the_lower_bounds() -> None:
    assert least(["torch>=2.6", "numpy>=1.26", "jinja2>=3.1", "foolbox==3.3.4", "httpx2"]) == [
        "numpy==1.26",
        "jinja2==3.1",
    ]
