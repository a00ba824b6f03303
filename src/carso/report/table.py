"""The table: for the terminal, and as Markdown for documentation.

Each cell is an accuracy in percent with its 95 % Wilson interval; the published figure, where there is one, stands
beside it. A defended column is bold, or starred where nothing can be bold, where its interval lies above those of all
others. Rows whose attack was used in training are marked foreseen.
"""

from __future__ import annotations

from typing import IO

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from carso.evaluation.results import ResultRow, Results
from carso.report import wording

WIDE = 132
"""Characters of a terminal that has room for an accuracy and its interval on one line."""

ATTACK = 17
"""Characters of the column of attacks, at least."""


def print_table(results: Results, file: IO[str] | None = None) -> None:
    """Print the table to `file`, by default standard output, in as many columns as there are."""
    console = Console(file=file)
    plain = console.color_system is None
    if console.width < _least(results, plain):
        console.print(blocks(results, console.width, plain))
    else:
        console.print(terminal(results, console.width < WIDE, plain))


def terminal(results: Results, narrow: bool = False, plain: bool = False) -> Table:
    """The table for a rich console; where it is narrow, a row takes two lines, and where it is plain, none is bold."""
    columns, gap = results.columns(), "\n" if narrow else " "
    told = Text(caption(results, best=STAR if plain else BOLD))
    table = Table(title=Text(title(results)), caption=told, title_style="bold", caption_style="dim")
    table.add_column(wording.kind("corruptions" if results.corrupted else ""), min_width=ATTACK)
    for column in columns:
        table.add_column(Text(wording.heading(column, results.adversarial)), justify="right", no_wrap=True)
    for name, rows in wording.groups(results.rows, results.whole).items():
        table.add_section()
        table.add_row(Text(wording.GROUPS[name][0], style="italic dim"))
        for row in rows:
            attack = Text(wording.attack(row)) + Text(gap + _foreseen(row), style="dim")
            table.add_row(attack, *(_cell(row, column, gap, plain) for column in columns))
    return table


def blocks(results: Results, width: int, plain: bool = False) -> Group:
    """The same figures for a terminal that is too narrow for the table: a block per attack, in it a line per column."""
    names = {column: Text(wording.heading(column, results.adversarial)) for column in results.columns()}
    figure = max(len(line) for column in names for line in _lines(results, column, plain))
    parts: list[RenderableType] = [Text(title(results), style="bold")]
    for name, rows in wording.groups(results.rows, results.whole).items():
        parts += [Text(), Text(wording.GROUPS[name][0], style="italic dim")]
        for row in rows:
            block = Table.grid(padding=(0, 0, 0, 2), pad_edge=True)
            block.add_column(width=min(max(map(len, names.values())), width - figure - 4), overflow="fold")
            block.add_column(justify="right", no_wrap=True)
            for column, heading in names.items():
                block.add_row(heading, _cell(row, column, "\n", plain))
            parts += [Text(wording.attack(row)) + Text(f" {_foreseen(row)}", style="dim"), block]
    return Group(*parts, Text(), Text(caption(results, best=STAR if plain else BOLD), style="dim"))


def markdown(results: Results) -> str:
    """The table as Markdown, one per protocol, with the run's particulars beneath."""
    columns = results.columns()
    parts = [f"**{title(results)}**", ""]
    for name, rows in wording.groups(results.rows, results.whole).items():
        parts += [f"### {wording.GROUPS[name][0]}", "", wording.explanation(name, columns, bool(results.hidden)), ""]
        parts += [
            _line(
                wording.kind(name), "foreseen", *(wording.heading(column, results.adversarial) for column in columns)
            ),
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


BOLD, STAR = "bold", "a star"
"""What tells a defended column that is above the others."""


def caption(results: Results, published: bool = True, best: str = BOLD) -> str:
    """What a figure needs to be believed, and what the figures of the thesis look like if they are shown."""
    where, fewer = results.environment, wording.fewer(results)
    n = f"n = {results.n:,}" + (f" (end to end {fewer:,})" if fewer else "")
    figures = published and any(row.thesis for row in results.rows)
    thesis = "figures of the thesis in parentheses; " if figures else ""
    threads = wording.several(where.threads, "thread", "threads")
    return (
        f"95 % Wilson intervals in brackets; {thesis}{best} where the intervals of the "
        f"defended columns do not overlap. Evaluated: {results.recipe or 'unnamed'}, seed {results.seed}, {n}. "
        f"carso {where.carso}, torch {where.torch}, {where.cpu}, {threads}."
        f"{''.join(f' {doubt}' for doubt in wording.doubts(results))}"
    )


def _foreseen(row: ResultRow) -> str:
    return "" if row.norm is None else "foreseen" if row.foreseen else "unforeseen"


def _lines(results: Results, column: str, plain: bool) -> list[str]:
    """The lines of all cells of a column of the narrow table."""
    return [line for row in results.rows for line in _cell(row, column, "\n", plain).plain.split("\n")]


def _least(results: Results, plain: bool) -> int:
    """The characters of the narrow table."""
    columns = ([wording.heading(one, results.adversarial), *_lines(results, one, plain)] for one in results.columns())
    return ATTACK + 3 + sum(max(map(len, lines)) + 3 for lines in columns) + 1


def _cell(row: ResultRow, column: str, gap: str, plain: bool = False) -> Text:
    rate = row.rates().get(column)
    if rate is None:
        return Text("n/a", style="dim")
    best = wording.best(row) == column
    accuracy = Text(("*" if best and plain else "") + wording.percent(rate), style="bold" if best else "")
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
    return _line(wording.attack(row), "clean" if row.norm is None else "yes" if row.foreseen else "no", *cells)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
