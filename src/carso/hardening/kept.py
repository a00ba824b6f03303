"""What an earlier run of a hardening left in its folder, held to its schema."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from carso.errors import RunError
from carso.storage.files import read_text
from carso.storage.schema import Schema, explained

S = TypeVar("S", bound=Schema)


def kept(path: Path, schema: type[S], wrong: str, remedy: str) -> S | None:
    """What a file says; None if there is none.

    Args:
        path: of JSON.
        schema: of it.
        wrong: what is said of a file that does not hold to it.
        remedy: what to do about it.

    Raises:
        RunError: if it does not.
    """
    if not path.exists():
        return None
    try:
        return schema.model_validate_json(read_text(path))
    except ValidationError as error:
        raise RunError(f"{path} is {wrong}: {explained(error)}; {remedy}") from error
