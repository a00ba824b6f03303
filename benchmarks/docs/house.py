"""Draw the house from the code: docs/house.svg, and the table of its rooms in docs/architecture.md.

    python -m benchmarks.docs.house

A room is a folder of src/carso, or the method: the modules at its root that are the paper's nouns. An arrow is an
import.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "carso"
METHOD = (
    "layers",
    "representation",
    "purifier",
    "correction",
    "contract",
    "recall",
    "vote",
    "detection",
    "surrogate",
    "defence",
)
DOORS = {"__init__", "__main__"}
WIDTH, HEIGHT, ACROSS, DOWN, MARGIN, BEND = 210, 62, 30, 46, 30, 8
LETTERS = 29
"""As many fit into a box, below its name."""
LEFT = {"serve": -2, "web": -2, "demo": -1, "attacks": -1, "corruptions": -1}
RIGHT = {"comparison": 1, "training": 1, "processes": 1, "ablations": 2, "rivals": 2, "progress": 2, "hub": 3}
COLUMNS = LEFT | RIGHT
"""Rooms that stand beside the middle column, so that long arrows have a way down."""
MIDDLE = MARGIN - min(COLUMNS.values()) * (WIDTH + ACROSS) + WIDTH / 2
MARKS = ("<!-- rooms -->\n", "<!-- /rooms -->\n")

Imports = Mapping[str, set[str]]


def room_of(path: Path) -> str:
    """The room of a file of the package."""
    first = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    return "method" if first in METHOD else first


def imports(path: Path) -> set[str]:
    """The rooms that a file imports from, but for what only annotations need."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        waiting += ast.iter_child_nodes(node)
        found |= {name.split(".")[1] for name in _imported(node) if name.startswith("carso.")}
    return {"method" if name in METHOD else name for name in found}


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom) or not node.module:
        return []
    return [f"carso.{alias.name}" for alias in node.names] if node.module == "carso" else [node.module]


def files() -> dict[str, list[Path]]:
    """Every room's files."""
    rooms: dict[str, list[Path]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if room_of(path) not in DOORS:
            rooms.setdefault(room_of(path), []).append(path)
    return rooms


def arrows(rooms: Mapping[str, list[Path]]) -> dict[str, set[str]]:
    """Whom each room imports, itself and the face of the package apart."""
    return {room: set().union(*map(imports, paths)) & rooms.keys() - {room} for room, paths in rooms.items()}


def floor_of(room: str, below: Imports) -> int:
    """One more than the highest floor that the room imports from; 0 is the ground."""
    return 1 + max((floor_of(other, below) for other in below[room]), default=-1)


def reduced(below: Imports) -> list[tuple[str, str]]:
    """The arrows that no longer way around already shows."""
    reach = {room: below[room].union(*(_below(other, below) for other in below[room])) for room in below}
    return sorted((a, b) for a in below for b in below[a] if not any(b in reach[c] for c in below[a] - {b}))


def _below(room: str, below: Imports) -> set[str]:
    return below[room].union(*(_below(other, below) for other in below[room]))


def sentence(room: str, paths: list[Path]) -> str:
    """The first sentence of what a room says of itself."""
    if room == "method":
        return "The paper: " + ", ".join(METHOD) + "."
    face = next((path for path in paths if path.name == "__init__.py"), paths[0])
    said = ast.get_docstring(ast.parse(face.read_text(encoding="utf-8"))) or ""
    return " ".join(said.split("\n\n")[0].split())


def table(rooms: Mapping[str, list[Path]], below: Imports) -> str:
    """One line per room, from the roof down."""
    rows = ["| room | what it is | imports |", "|---|---|---|"]
    for room in sorted(rooms, key=lambda r: (-floor_of(r, below), r)):
        others = ", ".join(sorted(below[room])) or "nothing"
        rows.append(f"| `{room}` | {sentence(room, rooms[room])} | {others} |")
    return "\n".join(rows) + "\n"


def draw(rooms: Mapping[str, list[Path]], below: Imports) -> str:
    """The picture: a room per box, the roof on top, an arrow where no longer way around shows the import already.

    Raises:
        ValueError: if two rooms would be drawn in one place, or an arrow behind a room.
    """
    floors = {room: floor_of(room, below) for room in rooms}
    top, across = max(floors.values()), WIDTH + ACROSS
    width = MIDDLE + max(COLUMNS.values()) * across + WIDTH / 2 + MARGIN
    height = 2 * MARGIN + (top + 1) * HEIGHT + top * DOWN
    place = {
        room: (MIDDLE + COLUMNS.get(room, 0) * across, MARGIN + (top - floor) * (HEIGHT + DOWN) + HEIGHT / 2)
        for room, floor in floors.items()
    }
    _check(place, reduced(below))
    wires = "".join(_wire(place[a], place[b]) for a, b in reduced(below))
    boxes = "".join(_box(room, place[room], rooms[room]) for room in rooms)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" role="img" '
        f'aria-label="The rooms of the package and who imports whom"><style>{STYLE}</style>{HEAD}'
        f'<rect class="paper" width="{width:g}" height="{height}" rx="12"/>{wires}{boxes}</svg>\n'
    )


STYLE = """
  .paper { fill: #ffffff; } .room { fill: #e8ebfc; stroke: #3145c4; } .wire { stroke: #7b818e; fill: none; }
  .head { fill: #7b818e; }
  .name { fill: #15171c; font-size: 16px; font-weight: 650; } .note { fill: #545b67; font-size: 12px; }
  @media (prefers-color-scheme: dark) { .paper { fill: #121418; } .room { fill: #242a49; stroke: #a3b0ff; }
    .name { fill: #e9ebef; } .note { fill: #a5acb9; } }
  text { font-family: system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; text-anchor: middle; }
"""
HEAD = (
    '<marker id="head" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="10" markerHeight="10" orient="auto" '
    'markerUnits="userSpaceOnUse"><path class="head" d="M0,1 L10,5 L0,9 Z"/></marker>'
)


def _box(room: str, place: tuple[float, float], paths: list[Path]) -> str:
    x, y = place
    shown = [path.stem for path in paths if path.stem not in DOORS]
    named = METHOD if room == "method" else [name for name in shown if name != room] or ["one file"]
    note = _note(named)
    return (
        f'<rect class="room" x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" rx="10"/>'
        f'<text class="name" x="{x:g}" y="{y - 2:g}">{escape(room)}</text>'
        f'<text class="note" x="{x:g}" y="{y + 18:g}">{escape(note)}</text>'
    )


def _note(names: Sequence[str]) -> str:
    """The first three of a room's modules, or fewer where they would not fit."""
    some = [", ".join(names[:count]) + (" ..." if len(names) > count else "") for count in (3, 2, 1)]
    return next((note for note in some if len(note) <= LETTERS), some[-1])


def _outer(x_0: float, x_1: float) -> float:
    """The column, of two, that lies further from the middle: arrows go down there."""
    return x_0 if abs(x_1 - MIDDLE) < abs(x_0 - MIDDLE) else x_1


def _check(place: Mapping[str, tuple[float, float]], wires: Sequence[tuple[str, str]]) -> None:
    rooms: dict[tuple[float, float], str] = {}
    for room, at in place.items():
        if at in rooms:
            raise ValueError(f"{rooms[at]} and {room} would be drawn in one place; give one a column of its own")
        rooms[at] = room
    for a, b in wires:
        (x_0, y_0), (x_1, y_1) = place[a], place[b]
        for (x, y), room in rooms.items():
            if x == _outer(x_0, x_1) and y_0 < y < y_1:
                raise ValueError(f"the arrow from {a} to {b} would be drawn behind {room}")


def _wire(upper: tuple[float, float], lower: tuple[float, float]) -> str:
    """Down the outer of the two columns, and across below the upper room, or above the lower one."""
    (x_0, y_0), (x_1, y_1) = upper, lower
    start, end = y_0 + HEIGHT / 2, y_1 - HEIGHT / 2
    if x_0 == x_1:
        path = f"M{x_0:g},{start:g} L{x_1:g},{end:g}"
    else:
        level = end - DOWN / 2 + 3 if _outer(x_0, x_1) == x_0 else start + DOWN / 3
        turn = BEND if x_0 < x_1 else -BEND
        path = (
            f"M{x_0:g},{start:g} L{x_0:g},{level - BEND:g} Q{x_0:g},{level:g} {x_0 + turn:g},{level:g} "
            f"L{x_1 - turn:g},{level:g} Q{x_1:g},{level:g} {x_1:g},{level + BEND:g} L{x_1:g},{end:g}"
        )
    return f'<path class="wire" d="{path}" stroke-width="1.5" marker-end="url(#head)"/>'


def main() -> None:
    rooms = files()
    below = arrows(rooms)
    (ROOT / "docs" / "house.svg").write_text(draw(rooms, below), encoding="utf-8")
    page = ROOT / "docs" / "architecture.md"
    before, rest = page.read_text(encoding="utf-8").split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    page.write_text(before + MARKS[0] + table(rooms, below) + MARKS[1] + after, encoding="utf-8")


if __name__ == "__main__":
    main()
