"""What docs/rivals.md says can be typed in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from carso import data, rivals
from carso.data import Dataset

PAGE = (Path(__file__).parents[2] / "docs" / "rivals.md").read_text(encoding="utf-8")


def test_its_code_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = data.load

    def few(*source: Any) -> Dataset:
        return whole(*source)[:256]

    monkeypatch.setattr(data, "load", few)
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)).replace("epochs=20", "epochs=1")
    names: dict[str, Any] = {}
    exec("\n".join(line for line in code.splitlines() if not line.startswith("found")), names)
    assert isinstance(names["rival"], rivals.PuVAE)
    assert names["defence"].purifier.decoder[-1]._forward_pre_hooks


def test_every_class_of_its_table_is_there() -> None:
    rows = [line.split("|")[2:4] for line in PAGE.splitlines() if line.startswith("| ")][1:]
    named = [name for row in rows for cell in row for name in re.findall(r"`(\w+)`", cell)]
    assert len(rows) == 8
    assert set(named) <= set(rivals.__all__)
