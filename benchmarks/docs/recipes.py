"""Write docs/recipes.md from the schema of recipes, `carso.training.recipe`.

python -m benchmarks.docs.recipes
"""

import json
from pathlib import Path
from typing import Any

from carso.training.reading import shipped
from carso.training.recipe import (
    AttackSpec,
    Augmented,
    ClassifierSpec,
    ClassifierTraining,
    PurifierSpec,
    PurifierTraining,
    Recipe,
    Schedule,
    Section,
    Unit,
)

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
HEAD = """# Recipes

A recipe is an experiment as data, in YAML. `carso recipe show NAME` prints a shipped one with all its defaults, `carso
recipe check FILE` says whether a file of your own is one, and if not on which line. Shipped:
{shipped}.
Nobody has trained `cifar10-control`, `cifar10-unlabelled`, `fashion-control` and `fashion-unlabelled` to the end and
audited them yet.

`base: NAME` in a file takes what it does not give from a shipped recipe, field by field; a list is taken whole, and
`null` takes away a section; a `factory` of your own takes the place of the base's classifier. A radius may be written
`8/255`; a whole number other than the seed is at most a billion. `carso harden` writes a recipe for you, as
`recipe.yaml` in its folder. `carso reproduce ablations` carries out recipes that differ from `thesis` in one thing
each, with changes at inference beside them, as `src/carso/recipes/studies/ablations.yaml` says; `carso reproduce
rivals` other defences, as `rivals.yaml` there says.

This page is written by `python -m benchmarks.docs.recipes` from the schema, `src/carso/training/recipe.py`.
"""
PARTS: tuple[tuple[str, type[Section]], ...] = (
    ("The recipe", Recipe),
    ("`classifier`", ClassifierSpec),
    ("`undefended` and `adversarial`", ClassifierTraining),
    ("`purifier`", PurifierSpec),
    ("`purification` and `hardening`", PurifierTraining),
    ("Further fields of these trainings", Augmented),
    ("Fields of every training", Schedule),
    ("An attack of `attacks`", AttackSpec),
)
SECTIONS = {cls.__name__: title for title, cls in PARTS}
BOUNDS = {"exclusiveMinimum": "> {}", "minimum": ">= {}", "exclusiveMaximum": "< {}", "maximum": "<= {}"}
COUNTED = 10**9
"""A bound as large is told once, in the head."""
NAMES = {"integer": "whole number", "number": "number", "boolean": "true or false", "string": "text"}


def page() -> str:
    names = ", ".join(f"`{name}`" for name in shipped())
    return "\n".join([HEAD.format(shipped=names), *(part(title, cls) for title, cls in PARTS)])


def part(title: str, cls: type[Section]) -> str:
    schema = cls.model_json_schema()
    own = [name for name in schema["properties"] if name in cls.__annotations__]
    rows = [row(cls, name, schema["properties"][name], name in schema.get("required", ())) for name in own]
    head = ["| field | type | default | unit | what it is |", "|---|---|---|---|---|"]
    return "\n".join([f"## {title}", "", *_said(cls), *head, *rows, ""])


def _said(cls: type[Section]) -> list[str]:
    return ["\n".join(line.strip() for line in (cls.__doc__ or "").strip().splitlines()), ""]


def row(cls: type[Section], name: str, schema: dict[str, Any], required: bool) -> str:
    field = cls.model_fields[name]
    unit = next((str(mark) for mark in field.metadata if isinstance(mark, Unit)), "")
    default = "required" if required else _default(schema)
    cells = (f"`{name}`", kind(schema), default, unit, field.description or "")
    return f"| {' | '.join(' '.join(cell.split()).replace('|', chr(92) + '|') for cell in cells)} |"


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    if value is None or "$ref" in schema:
        return "" if "$ref" in schema else "none"
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"


def kind(schema: dict[str, Any]) -> str:
    """The type of a field in words, with its bounds."""
    if "anyOf" in schema:
        return " or ".join(kind(option) for option in schema["anyOf"] if option.get("type") != "null")
    if "$ref" in schema:
        return f"section {SECTIONS[schema['$ref'].rpartition('/')[2]]}".replace("section An", "an")
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list: {kind(schema['items'] if 'items' in schema else schema['prefixItems'][0])}"
    bounds = [
        words.format(schema[bound]) for bound, words in BOUNDS.items() if bound in schema and schema[bound] < COUNTED
    ]
    return " ".join([NAMES[schema["type"]], ", ".join(bounds)]).strip()


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
