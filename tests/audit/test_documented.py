"""docs/audit.md names every check, with the threshold at which it is raised."""

import re
from pathlib import Path

from carso.audit.checks import DOUBTS

TEXT = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


def test_every_check_is_explained_with_its_threshold() -> None:
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]+) \| [^|]+ \|$", TEXT.split("## The checks")[1], re.MULTILINE))
    assert rows.keys() == {doubt.name for doubt in DOUBTS}
    for doubt in DOUBTS:
        assert not doubt.threshold or f"over {doubt.threshold:g} " in rows[doubt.name], doubt.name
