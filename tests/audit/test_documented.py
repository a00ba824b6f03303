"""docs/audit.md names every check, with the threshold at which it is raised; its code for other libraries runs."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from carso.audit import effort
from carso.audit.checks import DOUBTS

TEXT = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


def test_every_check_is_explained_with_its_threshold() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| [^|]+ \|$", TEXT.split("## The checks")[1], re.MULTILINE))
    assert rows.keys() == {doubt.name for doubt in DOUBTS}
    for doubt in DOUBTS:
        assert not doubt.threshold or f"over {doubt.threshold:g} " in rows[doubt.name], doubt.name


@pytest.mark.parametrize("place", [0, 1])
def test_the_code_for_libraries_and_leaderboards_runs(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = {
        "tuning": 5,
        "eot": (1,),
        "steps": (2,),
        "restarts": (1, 1),
        "neighbours": (1, 1),
        "long": (2, 1),
        "plain": 2,
    }
    monkeypatch.setitem(effort.SIZES, "quick", replace(effort.SIZES["quick"], **tiny, queries=3, spsa=(1, 1)))
    section = TEXT.split("## Other people's attack libraries and leaderboards")[1].split("\n## ")[0]
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    for library in ("foolbox", "torchattacks"):
        if library in code[place]:
            pytest.importorskip(library)
    names: dict[str, object] = {}
    exec(code[place], names)
    assert place == 0 or 0 <= names["robust"] < names["clean"] <= 1  # type: ignore[operator]
