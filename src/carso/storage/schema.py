"""Schemas of what files say: every field that is read has a type and bounds, and what breaks them is one short line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from carso.errors import WeightsError, shown

S = TypeVar("S", bound=BaseModel)


class Schema(BaseModel):
    """A description as strict as JSON is: `true` is no number, "3" neither, and every number is finite."""

    model_config = ConfigDict(strict=True, frozen=True, allow_inf_nan=False)


def validated(schema: type[S], fields: Mapping[str, Any], path: Path, within: str = "", fault: str = "is damaged") -> S:
    """The fields of a file's description, or of its part `within`, held to their schema.

    Raises:
        WeightsError: naming the file, its fault, and the first field that is wrong.
    """
    try:
        return schema.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        raise WeightsError(f"{path} {fault}: {explained(error, within)}") from error


def explained(error: ValidationError, within: str = "") -> str:
    """The first thing that is wrong, in a line: the field, the rule that it breaks, and what stands there."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in ((within,) if within else ()) + first["loc"])
    given = "" if first["type"] in {"missing", "json_invalid"} else f", not {shown(first['input'])}"
    return f"{place}: {first['msg']}{given}" if place else f"{first['msg']}{given}"
