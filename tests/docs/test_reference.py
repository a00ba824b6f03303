"""Every public name has an entry in the reference, and every entry is of something that explains itself."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from benchmarks.docs import site
from pydantic import BaseModel

import carso

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "reference").glob("*.md")}
ENTRIES = [entry for text in PAGES.values() for entry in re.findall(r"^::: ([\w.]+)$", text, re.MULTILINE)]


TELLS_FIELDS = re.compile(r"^(?:Args|Attributes):$", re.MULTILINE)


def packages() -> list[str]:
    rooms = (f"carso.{found.name}" for found in pkgutil.iter_modules(carso.__path__) if found.name != "__main__")
    return ["carso", *(room for room in rooms if hasattr(importlib.import_module(room), "__all__"))]


def test_every_public_name_has_one_entry() -> None:
    modules = {"carso.attacks", "carso.data", "carso.nn", "carso.rivals", "carso.weights"}
    assert modules == {f"carso.{name}" for name in carso.__all__ if inspect.ismodule(getattr(carso, name))}
    public = {f"{package}.{name}" for package in packages() for name in importlib.import_module(package).__all__}
    assert public - modules <= set(ENTRIES)
    assert len(ENTRIES) == len(set(ENTRIES))
    told = PAGES["defence.md"]
    assert all(f"`{module}`" in told for module in modules)


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_entry_is_there_and_explains_itself(entry: str) -> None:
    module, _, name = entry.rpartition(".")
    found: Any = getattr(importlib.import_module(module), name)
    if inspect.isclass(found) or inspect.isfunction(found):
        assert inspect.getdoc(found)


def test_a_function_is_shown_where_its_module_has_its_name_and_a_result_with_its_fields() -> None:
    text = "\n".join(PAGES.values())
    for entry in ENTRIES:
        module, _, name = entry.rpartition(".")
        found = getattr(importlib.import_module(module), name)
        if inspect.isfunction(found) and found.__module__ == entry:
            assert f"::: {entry}\n    options: {{members: [{name}]}}\n" in text
        model = inspect.isclass(found) and issubclass(found, BaseModel)
        if model and not TELLS_FIELDS.search(inspect.getdoc(found) or ""):
            assert f"::: {entry}\n    options: {{show_if_no_docstring: true}}\n" in text, entry


def test_every_page_is_in_the_site() -> None:
    text = (DOCS.parent / "mkdocs.yml").read_text(encoding="utf-8")
    named = set(
        re.findall(r": ([\w/-]+\.(?:md|ipynb))$", str(yaml.safe_dump(yaml.safe_load(text)["nav"])), re.MULTILINE)
    )
    there = {str(path.relative_to(DOCS)) for kind in ("md", "ipynb") for path in DOCS.rglob(f"*.{kind}")}
    assert named == there | site.generated().keys()


def test_the_first_page_leads_to_pages_and_the_command_line_is_whole() -> None:
    made = site.generated()
    for target in re.findall(r"\]\(([^)#]+)\)", made["index.md"]):
        assert (DOCS / target).exists() or target in made, target
    assert "[CONTRIBUTING.md](contributing.md)" in made["index.md"]
    assert "[CITATION.cff](citation.md)" in made["index.md"]
    verbs = re.findall(r"^## `(.*)`$", made["reference/command-line.md"], re.MULTILINE)
    assert {"carso audit", "carso train purifier", "carso recipe show", "carso serve"} <= set(verbs)
    assert "| `--debug` |" in made["reference/command-line.md"]
    assert "| `--watch WATCHER` |" in made["reference/command-line.md"]
