"""The table: for the terminal, and as Markdown for documentation.

Each cell is an accuracy in percent with its 95 % Wilson interval; the published figure, where there is one, stands
beside it. A defended column is bold where its interval lies
above those of all others. Rows whose attack was used in training are marked foreseen.
"""

from __future__ import annotations

from typing import IO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from carso.evaluation.results import ResultRow, Results
from carso.report import wording

WIDE = 132
"""Models of a terminal that has room for an accuracy and its interval on one line."""


def print_table(results: Results, file: IO[str] | None = None) -> None:
    """Print the table to `file`, by default standard output, in as many columns as there are."""
    console = Console(file=file)
    console.print(terminal(results, narrow=console.width < WIDE))


def terminal(results: Results, narrow: bool = False) -> Table:
    """The table for a rich console; where it is narrow, a row takes two lines."""
    columns, gap = results.columns(), "\n" if narrow else " "
    table = Table(title=Text(title(results)), caption=Text(caption(results)), title_style="bold", caption_style="dim")
    table.add_column("attack", min_width=17)
    for column in columns:
        table.add_column(Text(wording.heading(column, results.adversarial)), justify="right", no_wrap=True)
    for name, rows in wording.groups(results.rows).items():
        table.add_section()
        table.add_row(Text(wording.GROUPS[name][0], style="italic dim"))
        for row in rows:
            attack = Text(wording.attack(row)) + Text(gap + _foreseen(row), style="dim")
            table.add_row(attack, *(_cell(row, column, gap) for column in columns))
    return table


def markdown(results: Results) -> str:
    """The table as Markdown, one per protocol, with the run's particulars beneath."""
    columns = results.columns()
    parts = [f"**{title(results)}**", ""]
    for name, rows in wording.groups(results.rows).items():
        parts += [f"### {wording.GROUPS[name][0]}", "", wording.explanation(name, columns), ""]
        parts += [
            _line("attack", "foreseen", *(wording.heading(column, results.adversarial) for column in columns)),
            _line("---", "---", *["---:"] * len(columns)),
        ]
        parts += [_markdown_row(row, columns) for row in rows]
        parts.append("")
    return "\n".join([*parts, caption(results), ""])


def title(results: Results) -> str:
    """What the figures are."""
    fewer = wording.fewer(results)
    first = f", on the first {fewer:,} of them end to end" if fewer else ""
    return f"Top-1 accuracy (%) on {results.n:,} images of {results.dataset or 'the test set'}{first}"


def caption(results: Results, published: bool = True) -> str:
    """What a figure needs to be believed, and what the figures of the thesis look like if they are shown."""
    where, fewer = results.environment, wording.fewer(results)
    n = f"n = {results.n:,}" + (f" (end to end {fewer:,})" if fewer else "")
    figures = published and any(row.thesis for row in results.rows)
    thesis = "figures of the thesis in parentheses; " if figures else ""
    return (
        f"95 % Wilson intervals in brackets; {thesis}bold where the intervals of the "
        f"defended columns do not overlap. Recipe {results.recipe or 'none'}, seed {results.seed}, {n}. "
        f"carso {where.carso}, torch {where.torch}, {where.cpu}, {where.threads} threads."
    )


def _foreseen(row: ResultRow) -> str:
    return "" if row.norm is None else "foreseen" if row.foreseen else "unforeseen"


def _cell(row: ResultRow, column: str, gap: str) -> Text:
    rate = row.rates().get(column)
    if rate is None:
        return Text("n/a", style="dim")
    accuracy = Text(wording.percent(rate), style="bold" if wording.best(row) == column else "")
    dim = f"{gap}{wording.interval(rate)}"
    published = _published(row, column)
    return accuracy + Text(f"{published}{dim}" if gap == "\n" else f"{dim}{published}", style="dim")


def _published(row: ResultRow, column: str) -> str:
    figure = (row.thesis or {}).get(column)
    return "" if figure is None else f" ({figure:.2f})"


def _markdown_row(row: ResultRow, columns: list[str]) -> str:
    rates = row.rates()
    cells = []
    for column in columns:
        rate = rates.get(column)
        star = "**" if wording.best(row) == column else ""
        cells.append(
            f"{star}{wording.percent(rate)}{star} {wording.interval(rate)}{_published(row, column)}" if rate else "n/a"
        )
    return _line(wording.attack(row), "yes" if row.foreseen else "no", *cells)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
