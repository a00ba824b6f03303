"""Bounds on YAML, held before anything is built of it: an alias is a word that may stand for a billion values."""

from __future__ import annotations

import yaml

from carso.errors import RecipeError, shown

LENGTH, DEPTH, VALUES = 2**18, 20, 10_000
"""The most characters of a recipe, sections within sections, and values when every alias is written out."""


def check_bounds(text: str, source: str) -> None:
    """Hold YAML text to `LENGTH`, `DEPTH` and `VALUES`, going through its events once; tags have no place in it.

    Raises:
        RecipeError: naming the source, the line and what is wrong there.
        yaml.YAMLError: if it is no YAML.
    """
    if len(text) > LENGTH:
        raise RecipeError(f"{source} is longer than {LENGTH:,} characters, which no recipe is")
    extent = _Extent()
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        place = f"{source}, line {event.start_mark.line + 1 if event.start_mark else 1}"
        if (tag := getattr(event, "tag", None)) is not None:
            raise RecipeError(f"{place}: the tag {shown(tag)} has no place in a recipe; leave it out")
        extent.add(event)
        if extent.depth > DEPTH:
            raise RecipeError(f"{place}: is more than {DEPTH} sections deep")
        if extent.values > VALUES:
            raise RecipeError(f"{place}: has more than {VALUES:,} values by here, aliases written out")


class _Extent:
    """How deep the events so far go, and how many values they come to when every alias is written out."""

    def __init__(self) -> None:
        self._sizes: list[int] = [0]
        self._anchors: list[str | None] = []
        self._whole: dict[str | None, int] = {}

    @property
    def depth(self) -> int:
        return len(self._anchors)

    @property
    def values(self) -> int:
        return sum(self._sizes)

    def add(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.CollectionStartEvent):
            self._sizes.append(1)
            self._anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            size = self._whole[self._anchors.pop()] = self._sizes.pop()
            self._sizes[-1] += size
        elif isinstance(event, yaml.AliasEvent):
            endless = event.anchor in self._anchors
            self._sizes[-1] += VALUES + 1 if endless else self._whole.get(event.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            self._sizes[-1] += 1
