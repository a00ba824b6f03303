"""What is imported is what pyproject.toml says is needed, and the extras are extras."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

from benchmarks.runs.least_versions import least

ROOT = Path(__file__).parents[1]
DISTRIBUTIONS = {"xdist": "pytest-xdist", "PIL": "pillow", "yaml": "pyyaml", "art": "adversarial-robustness-toolbox"}
"""Where a distribution has another name than its module."""
OWN = {"carso", "benchmarks", "tests"}
"""What this repository holds itself."""


def requirements() -> dict[str, list[str]]:
    """Those of the core under "", and of each extra under its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras: dict[str, list[str]] = project["optional-dependencies"]
    return {"": project["dependencies"]} | extras


def names(*extras: str) -> set[str]:
    wanted = requirements()
    return {re.split(r"[><=\[]", requirement)[0] for extra in extras for requirement in wanted[extra]}


def modules_of(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.split(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return {node.module.split(".")[0]}
    if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        by_name = ast.unparse(node.func).split(".")[-1] in ("import_module", "importorskip", "find_spec")
        return {str(node.args[0].value).split(".")[0]} if by_name else set()
    return set()


def imported(folder: str) -> set[str]:
    """The distributions that a folder's files import, by statement or by name."""
    files = [ast.parse(path.read_text()) for path in (ROOT / folder).rglob("*.py")]
    found = {module for tree in files for node in ast.walk(tree) for module in modules_of(node)}
    return {DISTRIBUTIONS.get(name, name) for name in found - OWN - sys.stdlib_module_names}


def test_imports_are_seen_however_they_are_written() -> None:
    code = "import a.b\nfrom c.d import e\nfrom . import f\nif x:\n  import_module('g.h')\npytest.importorskip('i')"
    assert {m for node in ast.walk(ast.parse(code)) for m in modules_of(node)} == {"a", "c", "g", "i"}


def test_every_import_of_the_package_is_a_requirement() -> None:
    assert imported("src") <= names("", "audit", "demo", "export", "hub", "serve", "watch")


def test_every_import_of_the_tests_and_benchmarks_is_a_requirement() -> None:
    peers = {line.split("==")[0] for line in (ROOT / "benchmarks/speed/requirements.txt").read_text().splitlines()}
    made = set(re.findall(r"--no-deps ([\w-]+)", (ROOT / "Makefile").read_text()))
    assert imported("tests") | imported("benchmarks") <= names(*requirements()) | peers | made


def test_every_requirement_of_the_core_is_imported() -> None:
    assert names("") <= imported("src")


def test_every_requirement_has_a_lower_bound() -> None:
    named = [requirement for wanted in requirements().values() for requirement in wanted]
    ours = ["carso[demo,export,hub,serve,sweep,watch]"]
    assert [each for each in named if not re.search(r"[>=]=[\d.]+$", each)] == ours


def test_every_extra_that_a_message_or_the_readme_names_is_one() -> None:
    told = [ROOT / "README.md", *(ROOT / "src").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    named = {extra for path in told for extra in re.findall(r"carso\[(\w+)\]", path.read_text())}
    assert {"audit", "demo", "export", "hub", "serve", "watch"} <= named <= set(requirements())


def test_least_versions_are_the_lower_bounds() -> None:
    assert least(["torch>=2.6", "numpy>=1.26", "jinja2>=3.1", "foolbox==3.3.4", "httpx2"]) == [
        "numpy==1.26",
        "jinja2==3.1",
    ]


WITHOUT = """
import importlib, pkgutil, sys, carso
sys.modules |= dict.fromkeys(sys.argv[1:])
for module in pkgutil.walk_packages(carso.__path__, "carso."):
    if module.name.endswith("__main__"):
        continue
    try:
        importlib.import_module(module.name)
    except ImportError:
        print(module.name)
"""


def test_without_the_extras_everything_but_what_speaks_http_is_there() -> None:
    missing = sorted(names("audit", "demo", "export", "hub", "serve", "watch") - {"torch"})
    answer = subprocess.run([sys.executable, "-c", WITHOUT, *missing], capture_output=True, text=True, check=True)
    assert {name.rpartition(".")[0] for name in answer.stdout.split()} == {"carso.demo", "carso.serve", "carso.web"}
