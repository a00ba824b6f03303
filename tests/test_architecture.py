"""Data flows down the house: no module imports from a floor above its own."""

import ast
from pathlib import Path

import pytest

import carso

ROOT = Path(carso.__file__).parent
FORBIDDEN = {
    "types": {"*"},
    "nn": {"attacks", "data", "method", "training", "evaluation", "audit", "report", "demo", "cli"},
    "attacks": {"method", "training", "evaluation", "audit", "report", "demo", "cli"},
    "method": {"training", "evaluation", "audit", "report", "demo", "cli"},
    "report": {"attacks", "training", "method", "demo", "cli"},
}
METHOD = {"representation", "purifier", "recall", "vote", "defence", "standin"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("carso."):
            found.add(node.module.split(".")[1])
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("carso.")}
    return {"method" if name in METHOD else name for name in found}


@pytest.mark.parametrize("floor", FORBIDDEN)
def test_imports_only_point_down(floor: str) -> None:
    names = METHOD if floor == "method" else {floor}
    files = [file for name in names for file in [ROOT / f"{name}.py", *(ROOT / name).rglob("*.py")] if file.exists()]
    assert files
    for file in files:
        found = imports(file)
        assert not (found if "*" in FORBIDDEN[floor] else found & FORBIDDEN[floor]), file


def test_the_command_line_answers_without_torch() -> None:
    tree = ast.parse((ROOT / "cli.py").read_text())
    at_import = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
    assert not at_import & {"torch", "numpy"}
