"""How results look in a notebook: drawn by whoever has registered for them, of whom they know nothing.

A package registers a function (result -> HTML) as an entry point of the group `carso.html`, by the name of the class.
"""

from __future__ import annotations

from importlib.metadata import entry_points

GROUP = "carso.html"


class Displayed:
    """Something that a notebook shows as HTML, or as plain text where nobody has registered."""

    def _repr_html_(self) -> str | None:
        for drawer in entry_points(group=GROUP, name=type(self).__name__):
            html: str = drawer.load()(self)
            return html
        return None
