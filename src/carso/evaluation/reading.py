"""What a run writes, and reading it again by its schema: damage is one line that names file, field and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from torch import Tensor

from carso.errors import RunError, WeightsError
from carso.storage.files import write_text
from carso.storage.tensors import read_tensors

M = TypeVar("M", bound=BaseModel)

SHOWN, LONGEST = 60, 300
"""Characters of a file's value, and of what is said of it, in a message."""


def read_json(path: Path, schema: type[M], remedy: str) -> M:
    """A JSON file as its schema, strictly: neither `true` nor "3" is a number.

    Raises:
        RunError: if it is missing, cannot be read, is not JSON in UTF-8, or a field is missing or wrong.
    """
    try:
        return schema.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError as error:
        raise RunError(f"{path}: no such file; {remedy}") from error
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        raise damaged(path, explained(error), remedy) from error


def write_json(found: BaseModel, path: Path) -> Path:
    """Write a JSON file in one step, so that no reader ever sees half of it, and return its path."""
    write_text(path, found.model_dump_json(indent=1) + "\n")
    return path


def within(path: Path, file: str) -> Path:
    """A file, given itself or its folder."""
    return path / file if path.is_dir() else path


def read_state(path: Path, kind: str, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and description of a safetensors file of a run's.

    Raises:
        RunError: as for `carso.storage.tensors.read_tensors`.
    """
    try:
        return read_tensors(path, kind)
    except WeightsError as error:
        raise RunError(f"{_short(str(error), LONGEST)}; {remedy}") from error


def damaged(path: Path, what: str, remedy: str) -> RunError:
    """The error for a file of a run's that does not hold what it should."""
    return RunError(f"{path}: {_short(what, LONGEST)}; {remedy}")


def explained(error: ValidationError) -> str:
    """The first thing that is wrong: the field, the rule that it breaks, and what stands there."""
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        return f"is not JSON ({first['ctx']['error']})"
    plain = isinstance(first["input"], str | int | float | bool | None) and first["type"] != "missing"
    return f"{_where(first['loc'])}: {first['msg']}" + (f", not {_short(repr(first['input']), SHOWN)}" if plain else "")


def _where(location: tuple[int | str, ...]) -> str:
    parts = (f"[{part}]" if isinstance(part, int) else f".{_short(part, SHOWN)}" for part in location)
    return "".join(parts).lstrip(".") or "top level"


def _short(text: str, most: int) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
