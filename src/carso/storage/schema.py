"""Schemas of what files say: every field that is read has a type and bounds, and what breaks them is one short line.

What a run writes beside its tensors is JSON; damage names file, field and what to do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from carso.errors import VALUE, RunError, WeightsError, in_a_line, shown
from carso.storage.files import read_text, write_text

S = TypeVar("S", bound=BaseModel)
K = TypeVar("K", bound="Kept")

SAID = 300
"""The most characters of what is said of a damaged file, beside its name and what to do."""


class Schema(BaseModel):
    """A description as strict as JSON is: `true` is no number, "3" neither, and every number is finite."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


class Kept(BaseModel):
    """What a folder keeps as JSON, in a file of one name; `REMEDY` is what is told where it is damaged."""

    KEPT_AS: ClassVar[str]
    REMEDY: ClassVar[str]

    def write(self, folder: Path) -> Path:
        """Write it into a folder, in one step, and return the file's path."""
        return write_json(self, folder / self.KEPT_AS)

    @classmethod
    def read(cls: type[K], path: str | Path) -> K:
        """Read it, given the file or its folder; raises as `read_json`."""
        return read_json(within(path, cls.KEPT_AS), cls, cls.REMEDY)

    @classmethod
    def read_if_there(cls: type[K], folder: Path) -> K | None:
        """Read it from a folder; None if there is no such file."""
        return read_json_if_there(folder / cls.KEPT_AS, cls, cls.REMEDY)


def read_json(path: Path, schema: type[S], remedy: str) -> S:
    """A JSON file as its schema, strictly: neither `true` nor "3" is a number.

    Raises:
        RunError: if it is missing, cannot be read, is not JSON in UTF-8, or a field is missing or wrong.
    """
    try:
        return schema.model_validate_json(read_text(path), strict=True)
    except RunError as error:
        raise RunError(f"{error}; {remedy}") from error
    except ValidationError as error:
        raise damaged(path, explained(error), remedy) from error


def read_json_if_there(path: Path, schema: type[S], remedy: str) -> S | None:
    """As `read_json`; None if there is no such file."""
    return read_json(path, schema, remedy) if path.exists() else None


def write_json(found: BaseModel, path: Path) -> Path:
    """Write a JSON file in one step, so that no reader ever sees half of it, and return its path."""
    write_text(path, found.model_dump_json(indent=1) + "\n")
    return path


def within(path: str | Path, file: str) -> Path:
    """A file, given itself or its folder."""
    found = Path(path)
    return found / file if found.is_dir() else found


def validated(schema: type[S], fields: Mapping[str, Any], path: Path, within: str = "", fault: str = "is damaged") -> S:
    """The fields of a file's description, or of its part `within`, held to their schema.

    Raises:
        WeightsError: naming the file, its fault, and the first field that is wrong.
    """
    try:
        return schema.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        raise WeightsError(f"{path} {fault}: {explained(error, within)}") from error


def damaged(path: Path, what: str, remedy: str) -> RunError:
    """The error for a file of a run's that does not hold what it should."""
    return RunError(f"{path}: {in_a_line(what, SAID)}; {remedy}")


def explained(error: ValidationError, within: str = "") -> str:
    """The first thing that is wrong: the field, the rule that it breaks, and what stands there."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"is not JSON ({first['ctx']['error']})"
    place = _place(((within,) if within else ()) + first["loc"])
    plain = isinstance(first["input"], str | int | float | None) and first["type"] != "missing"
    return f"{place}: {first['msg']}" + (f", not {shown(first['input'])}" if plain else "")


def _place(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{in_a_line(part, VALUE)}" for part in location)
    return "".join(parts).lstrip(".") or "top level"
