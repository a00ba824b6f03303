"""Studies: what several experiments are to show together, as data.

Each ships as `recipes/studies/NAME.yaml`, is read here, and is carried out by the room of its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import TypeVar

from pydantic import ValidationError

from carso.errors import RecipeError, did_you_mean
from carso.storage.schema import Schema, explained
from carso.training.reading import values_of


class Part(Schema, extra="forbid"):
    """A part of a study."""


S = TypeVar("S", bound=Part)
E = TypeVar("E", bound=Part)


def read(name: str, schema: type[S]) -> S:
    """The study that ships under a name."""
    return parsed((resources.files("carso") / "recipes" / "studies" / f"{name}.yaml").read_text("utf-8"), schema)


def parsed(text: str, schema: type[S]) -> S:
    """A study from YAML text.

    Raises:
        RecipeError: naming the first field that is wrong.
    """
    try:
        return schema.model_validate_json(values_of(text, "the study"))
    except ValidationError as error:
        raise RecipeError(f"the study is wrong: {explained(error)}") from error


def chosen(entries: Mapping[str, E], names: Sequence[str], kind: str) -> dict[str, E]:
    """The entries of these names, or all, in the study's order.

    Args:
        entries: of the study.
        names: which; none for all.
        kind: what an error calls one of them.

    Raises:
        RecipeError: if there is none of a name; near ones are suggested.
    """
    for name in names:
        if name not in entries:
            raise RecipeError(f"no {kind} {name!r}{did_you_mean(name, entries)}; there are: {', '.join(entries)}")
    return {name: entry for name, entry in entries.items() if not names or name in names}
