"""Reading recipes from YAML, and saying on which line they are wrong.

Unknown, mistyped and contradictory fields are refused with the line on which they stand. `base` names a shipped recipe:
what the file does not give is taken from it, field by field; a list is taken whole, and `null` takes away a section. A
classifier with a `factory` of its own takes the place of the base's.
Values are as strict as JSON's: `true` is no number. Of YAML 1.2 numbers may be like 1e-3; dates are plain text.
"""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from carso.errors import VALUE, RecipeError, RunError, did_you_mean, shortened, shown
from carso.storage.files import read_text
from carso.training.bounds import LENGTH, check_bounds
from carso.training.recipe import Recipe

NAMES = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")
"""How YAML sees the name of a field: as text, or as `<<`, which takes over a section by its alias."""

MISTAKES = 5
"""The most mistakes of a recipe that one error lists."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, pattern) for tag, pattern in rules if tag != "tag:yaml.org,2002:timestamp"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def shipped() -> list[str]:
    """Names of the recipes inside the package."""
    folder = resources.files("carso") / "recipes"
    return sorted(Path(entry.name).stem for entry in folder.iterdir() if entry.name.endswith(".yaml"))


def read_recipe(source: str | Path) -> Recipe:
    """A recipe by the name of a shipped one, or from a YAML file.

    Raises:
        RecipeError: naming the file, the line and the field, and what is wrong with it.
    """
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"} and not path.is_file():
        return parse_recipe(_shipped_text(str(source), "; or pass a .yaml file"), f"recipe {source}")
    try:
        text = read_text(path, LENGTH)
    except RunError as error:
        raise RecipeError(f"cannot read the recipe {error}") from error
    return parse_recipe(text, str(path))


def _shipped_text(name: str, otherwise: str = "") -> str:
    if name not in shipped():
        hint = did_you_mean(name, shipped())
        raise RecipeError(f"no recipe {name!r}{hint}; shipped: {', '.join(shipped())}{otherwise}")
    return (resources.files("carso") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


def parse_recipe(text: str, source: str) -> Recipe:
    """A recipe from YAML text; `source` names it in errors.

    Raises:
        RecipeError: naming the line and the field, and what is wrong with it.
    """
    tree, values = _parsed(text, source)
    if not isinstance(values, dict):
        raise RecipeError(f"{source} must be a mapping of fields, as in recipes/thesis.yaml")
    whole = _on_base(values, f"{source}, line {_line(tree, ('base',))}")
    try:
        return Recipe.model_validate_json(json.dumps(whole, default=repr))
    except ValidationError as error:
        mistakes = [_explain(source, tree, mistake) for mistake in error.errors()[:MISTAKES]]
        raise RecipeError("\n".join(mistakes)) from error


def values_of(text: str, source: str) -> str:
    """The values of YAML text, as JSON; `source` names it in errors.

    Raises:
        RecipeError: naming the line and the field, if it is no YAML, or a field stands in a section twice.
    """
    return json.dumps(_parsed(text, source)[1], default=repr)


def derived(base: Recipe, changes: dict[str, Any], source: str) -> Recipe:
    """A recipe over another, field by field as `base: NAME` takes them.

    Raises:
        RecipeError: naming the field, and what is wrong with it.
    """
    whole = _merged(base.model_dump(mode="json"), changes)
    try:
        return Recipe.model_validate_json(json.dumps(whole, default=repr))
    except ValidationError as error:
        raise RecipeError(_explain(source, None, error.errors()[0])) from error


def _parsed(text: str, source: str) -> tuple[yaml.Node | None, Any]:
    """The nodes of YAML text, which know their lines, and its values."""
    try:
        check_bounds(text, source)
        tree = yaml.compose(text, Loader=_Loader)
        _check_fields(tree, source)
        return tree, yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise RecipeError(f"{source}, line {line}: is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error


def _check_fields(node: yaml.Node | None, source: str) -> None:
    """Hold the names of fields to plain text, and each to one place in its section."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    fields: set[str] = set()
    for key, _ in pairs:
        place = f"{source}, line {key.start_mark.line + 1}"
        if key.tag not in NAMES:
            raise RecipeError(f"{place}: the name of a field is plain text, not {shown(key.value)}")
        if key.value in fields:
            raise RecipeError(f"{place}: field {shown(key.value)} stands here twice")
        fields.add(key.value)
    inner = [value for _, value in pairs] if pairs else node.value if isinstance(node, yaml.SequenceNode) else []
    for value in inner:
        _check_fields(value, source)


def _on_base(values: dict[str, Any], place: str) -> dict[str, Any]:
    """The fields of a recipe over those of its base, if it has one; the name is always its own."""
    own = {field: value for field, value in values.items() if field != "base"}
    if "base" not in values:
        return own
    if not isinstance(values["base"], str):
        raise RecipeError(f"{place}: base: Input should be the name of a shipped recipe, not {shown(values['base'])}")
    try:
        text = _shipped_text(values["base"])
    except RecipeError as error:
        raise RecipeError(f"{place}: base: {error}") from error
    base = _on_base(yaml.load(text, Loader=_Loader), place)
    return _merged({field: value for field, value in base.items() if field != "name"}, own)


def _merged(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {
        field: _merged(base[field], value)
        for field, value in own.items()
        if isinstance(value, dict) and isinstance(base.get(field), dict) and value.get("factory") is None
    }
    return base | own | both


def _explain(source: str, tree: yaml.Node | None, error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "the recipe"
    line = _line(tree, error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{source}, line {line}: unknown field {shown(place)}{_suggest(error['loc'])}"
    of_section = error["type"] in {"missing", "value_error"} and isinstance(error["input"], dict)
    given = "" if of_section else f", not {shown(error['input'])}"
    return f"{source}, line {line}: {shortened(place, VALUE)}: {error['msg']}{given}"


def _suggest(loc: tuple[int | str, ...]) -> str:
    model: Any = Recipe
    for part in loc[:-1]:
        if isinstance(part, str) and part in getattr(model, "model_fields", {}):
            model = _model_of(model.model_fields[part].annotation)
    fields = [*getattr(model, "model_fields", {}), *(["base"] if model is Recipe else [])]
    return did_you_mean(str(loc[-1]), fields)


def _model_of(annotation: Any) -> Any:
    options = getattr(annotation, "__args__", (annotation,))
    return next((option for option in options if hasattr(option, "model_fields")), None)


def _line(node: yaml.Node | None, loc: tuple[int | str, ...]) -> int:
    if node is None:
        return 1
    line = int(node.start_mark.line) + 1
    for part in loc:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == part), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = int(node.start_mark.line) + 1
    return line
