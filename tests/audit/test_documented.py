"""docs/audit.md names every check, with the threshold at which it is raised; its code for other libraries runs."""

import re
from pathlib import Path

import pytest
from tests.efforts import shorten

from carso.audit.checks import DOUBTS

TEXT = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


def test_every_check_is_explained_with_its_threshold() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| [^|]+ \|$", TEXT.split("## The checks")[1], re.MULTILINE))
    assert list(rows) == [doubt.name for doubt in DOUBTS]
    for doubt in DOUBTS:
        assert not doubt.threshold or f"over {doubt.threshold:g} " in rows[doubt.name], doubt.name


@pytest.mark.parametrize("place", [0, 1])
def test_the_code_for_libraries_and_leaderboards_runs(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, "quick", tuning=5)
    section = TEXT.split("## Other people's attack libraries and leaderboards")[1].split("\n## ")[0]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for library in ("foolbox", "torchattacks"):
        if library in code[place]:
            pytest.importorskip(library)
    names: dict[str, object] = {}
    exec(code[place], names)
    assert place == 0 or 0 <= names["robust"] < names["clean"] <= 1  # type: ignore[operator]
