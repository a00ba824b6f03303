"""Data flows down the house: a room imports from the rooms below it and from no other."""

import ast
from pathlib import Path

import pytest
from benchmarks.docs import house
from benchmarks.docs.house import METHOD, imports, room_of

import carso
from carso import fast

ROOT = Path(carso.__file__).parent
BASE = {"types", "errors"}
LOWER = BASE | {"nn", "fast", "corruptions"}
LIBRARY = LOWER | {"progress", "processes", "attacks", "method", "storage", "data"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "types": {"errors"},
    "progress": set(),
    "processes": {"errors"},
    "nn": BASE,
    "fast": BASE | {"nn", "progress"},
    "corruptions": BASE,
    "attacks": LOWER,
    "method": LOWER | {"progress", "processes"},
    "storage": LOWER | {"method"},
    "data": BASE | {"storage", "progress"},
    "training": LIBRARY,
    "rivals": LIBRARY | {"training"},
    "evaluation": LIBRARY,
    "audit": LIBRARY | {"evaluation", "rivals"},
    "report": BASE | {"progress", "storage", "evaluation", "audit"},
    "hub": LIBRARY | {"evaluation", "audit", "report"},
    "web": BASE | {"data"},
    "demo": LIBRARY | {"web"},
    "serve": LIBRARY | {"evaluation", "web"},
    "ablations": LIBRARY | {"training", "evaluation", "report"},
    "comparison": LIBRARY | {"training", "evaluation", "audit", "report", "rivals"},
    "hardening": LIBRARY | {"training", "evaluation", "audit", "report"},
    "commands": LIBRARY
    | {"training", "evaluation", "audit", "report", "demo", "hardening", "ablations", "comparison", "serve", "web"},
}


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_only_point_down(room: str) -> None:
    files = [path for path in ROOT.rglob("*.py") if room_of(path) == room]
    assert files
    for path in files:
        assert imports(path) <= MAY_IMPORT[room] | {room}, path


def test_every_room_has_its_rule() -> None:
    assert {room_of(path) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"} == set(MAY_IMPORT)


def behind_the_door(source: str) -> set[str]:
    """What a module of another room takes of the fast forms that they do not hand out."""
    named: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            named |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Attribute):
            named.add(ast.unparse(node))
    given = {f"carso.fast.{name}" for name in fast.__all__}
    return {name for name in named if f"{name}.".startswith("carso.fast.")} - given


def test_only_the_door_of_the_fast_forms_is_used() -> None:
    for path in ROOT.rglob("*.py"):
        if room_of(path) != "fast":
            assert not behind_the_door(path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize(
    ("line", "taken"),
    [
        ("from carso.fast import faster, pullback", set()),
        ("from carso.fast import faster, folding", {"carso.fast.folding"}),
        ("from carso.fast.folding import fold", {"carso.fast.folding.fold"}),
        ("import carso.fast.folding", {"carso.fast.folding"}),
        ("from carso import fast", {"carso.fast"}),
    ],
)
def test_every_way_around_the_door_is_seen(line: str, taken: set[str]) -> None:
    assert behind_the_door(line) == taken


def test_the_root_is_the_method() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} == {*METHOD} | BASE | {"progress", "__init__", "__main__"}


def test_the_command_line_answers_without_torch() -> None:
    heavy = {"torch", "numpy", "rich", "carso.types", "carso.data", "carso.defence"}
    for path in (ROOT / "commands").glob("*.py"):
        tree = ast.parse(path.read_text())
        plain = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        named = {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert not heavy & (plain | named), path


def test_the_page_shows_the_house_as_it_is() -> None:
    docs, rooms = house.ROOT / "docs", house.files()
    below = house.arrows(rooms)
    told = "; run python -m benchmarks.docs.house"
    assert house.table(rooms, below) in (docs / "architecture.md").read_text(encoding="utf-8"), f"table{told}"
    assert house.draw(rooms, below) == (docs / "house.svg").read_text(encoding="utf-8"), f"picture{told}"


def test_no_room_hides_another_nor_an_arrow() -> None:
    file = [ROOT / "errors.py"]
    with pytest.raises(ValueError, match="errors and types would be drawn in one place"):
        house.draw({"errors": file, "types": file}, {"errors": set(), "types": set()})
    below = {"audit": {"web", "types"}, "web": {"serve"}, "nn": {"attacks"}}
    below |= {room: set[str]() for room in ("types", "serve", "attacks")}
    with pytest.raises(ValueError, match="the arrow from audit to types would be drawn behind nn"):
        house.draw(dict.fromkeys(below, file), below)
