"""`carso recipe`: a recipe shown with all its defaults, or checked."""

from __future__ import annotations

import typer

from carso.commands.options import Recipe
from carso.commands.verb import Verb

recipe = typer.Typer(help="Show or check a recipe.", no_args_is_help=True)


@recipe.command(cls=Verb)
def show(recipe: Recipe) -> None:
    """Print a recipe as it is carried out, with its base and all defaults."""
    from carso.training.reading import read_recipe

    typer.echo(read_recipe(recipe).to_yaml(), nl=False)


@recipe.command(cls=Verb)
def check(recipe: Recipe) -> None:
    """Say whether a file is a recipe.

    In a line: what it would train; or what is wrong, and where.
    """
    from carso.training.reading import read_recipe
    from carso.training.recipe import Schedule

    found = read_recipe(recipe)
    trained = [f"{name} {value.epochs} epochs" for name, value in found if isinstance(value, Schedule)]
    typer.echo(f"{recipe} is a recipe: {found.name}, on {found.data}; {', '.join(trained) or 'trains nothing'}")
