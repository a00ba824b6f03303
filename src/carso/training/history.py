"""`history.json`: what every epoch of every stage came to, for the report.

[{"stage": "purifier", "epoch": 1, "rate": 0.002, "loss": 231.4, "validation_loss": 198.7}, ...]
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, RootModel

from carso.storage.files import write_text
from carso.storage.folder import HISTORY
from carso.storage.schema import Schema, read_json_if_there

Figure = Annotated[float, Field(allow_inf_nan=True)]
"""Of an epoch; one of held-out images may overflow while training goes on."""


class Epoch(Schema, extra="allow"):
    """One epoch of one stage; every further field is a number."""

    __pydantic_extra__: dict[str, Figure]

    stage: str
    epoch: float


class _History(RootModel[list[Epoch]]):
    """All of them."""


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The epochs of a run so far; none if it has no history.

    Raises:
        RunError: if the file is damaged; names the field.
    """
    found = read_json_if_there(folder / HISTORY, _History, "repair or delete it")
    return [epoch.model_dump() for epoch in found.root] if found else []


def add_history(folder: Path, stage: str, epochs: list[dict[str, float]]) -> None:
    """Put the epochs of a stage in the place of those that it had."""
    kept = [entry for entry in read_history(folder) if entry["stage"] != stage]
    write_text(folder / HISTORY, json.dumps(kept + [{"stage": stage, **entry} for entry in epochs], indent=1))
