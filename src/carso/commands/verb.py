"""A verb of the command line, which says of a value that it does not take what the value was."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperCommand


class Verb(TyperCommand):
    """A command whose refusals end with the value that was given, where typer leaves it out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments that are left, as the base class does it."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            from pydantic import ValidationError

            if isinstance(error.__cause__, ValidationError):
                error.message += f", not {error.__cause__.errors()[0]['input']}"
            raise
