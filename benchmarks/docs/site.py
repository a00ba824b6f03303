"""What the site shows beside docs/: the texts of the root, the README first, and every verb of the command line.

A hook of mkdocs (mkdocs.yml); `make docs` builds the site into out/site.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from typer.main import get_command

from carso.commands.cli import app

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).parents[2]
PAGES = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "CITATION.cff": "citation.md"}
"""Files of the root that are pages of the site, and what they are called there."""
LINK = re.compile(r"\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that are written elsewhere or by the code."""
    from mkdocs.structure.files import File

    for name, text in generated().items():
        files.append(File.generated(config, name, content=text))


def generated() -> dict[str, str]:
    """The text of each page that is not in docs/, by its name there."""
    return {
        "index.md": from_docs((ROOT / "README.md").read_text(encoding="utf-8")),
        "changes.md": from_docs((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")),
        "contributing.md": from_docs((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")),
        "citation.md": f"# Citation\n\n```yaml\n{(ROOT / 'CITATION.cff').read_text(encoding='utf-8')}```\n",
        "reference/command-line.md": command_line(),
    }


def from_docs(text: str) -> str:
    """A text of the root as it reads from docs/: its links lead to pages, and what is none is named."""

    def turned(found: re.Match[str]) -> str:
        words, target = found[1], found[2]
        page = PAGES.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        return f"[{words}]({page})" if page else words

    return LINK.sub(turned, text)


def command_line() -> str:
    """Every verb with its arguments and options, as `--help` tells them, after the options of no verb."""
    root = typer.Context(get_command(app), info_name="carso")
    head = f"# Command line\n\n{root.command.help}\n\n{taken(root)}"
    return head + "".join(map(verb, leaves(root)))


def leaves(context: typer.Context) -> list[typer.Context]:
    """The verbs that do something, in their order."""
    below = getattr(context.command, "commands", None)
    if below is None:
        return [context]
    inner = (typer.Context(command, info_name=name, parent=context) for name, command in below.items())
    return [leaf for each in inner for leaf in leaves(each)]


def verb(context: typer.Context) -> str:
    """One verb: its title, what it does, and a table of what it takes."""
    usage = " ".join(context.command.collect_usage_pieces(context))
    path = context.command_path
    return f"\n## `{path}`\n\n{context.command.help}\n\n    {path} {usage}\n\n{taken(context)}"


def taken(context: typer.Context) -> str:
    """A table of arguments and options."""
    rows = [record for each in context.command.get_params(context) if (record := each.get_help_record(context))]
    table = "".join(f"| `{name}` | {cell(told)} |\n" for name, told in rows)
    return f"| argument or option | what it is |\n|---|---|\n{table}"


def cell(text: str) -> str:
    """A text that stands in a table."""
    return re.sub(r"([|\[\]])", r"\\\1", " ".join(text.split()))
