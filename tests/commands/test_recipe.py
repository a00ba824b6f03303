from pathlib import Path

import pytest
from benchmarks.docs import recipes as page
from typer.testing import CliRunner, Result

from carso.commands import cli
from carso.errors import RecipeError
from carso.training.reading import parse_recipe, read_recipe, shipped
from carso.training.recipe import Recipe, Section

MINE = "name: mine\ndata: pictures\npurification:\n  epochs: 3\n  rate: 0.002\n"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli.app, ["recipe", *arguments])


@pytest.mark.parametrize("name", shipped())
def test_what_is_shown_is_the_recipe_itself(name: str) -> None:
    answer = run("show", name)
    assert answer.exit_code == 0
    assert parse_recipe(answer.stdout, "shown") == read_recipe(name)


def test_a_recipe_is_checked_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    answer = run("check", str(tmp_path / "mine.yaml"))
    assert answer.exit_code == 0
    assert answer.stdout == f"{tmp_path / 'mine.yaml'} is a recipe: mine, on pictures; purification 3 epochs\n"


def test_what_is_no_recipe_is_wrong_on_a_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE.replace("rate", "rat"))
    answer = run("check", str(tmp_path / "mine.yaml"))
    assert isinstance(answer.exception, RecipeError)
    assert "mine.yaml, line 5: unknown field 'purification.rat'; did you mean 'rate'?" in str(answer.exception)


def test_the_page_says_what_the_schema_says() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(), "run python -m benchmarks.docs.recipes"


def test_every_field_is_described() -> None:
    sections = {Recipe, *(cls for _, cls in page.PARTS)}
    assert sections == {
        Recipe,
        *Section.__subclasses__(),
        *page.Schedule.__subclasses__(),
        *page.Augmented.__subclasses__(),
    }
    assert [
        f"{cls.__name__}.{name}" for cls in sections for name, f in cls.model_fields.items() if not f.description
    ] == []
