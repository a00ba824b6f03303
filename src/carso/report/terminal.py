"""An audit's verdict on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from carso.audit.results import AttackResult, Audit, BudgetResult
from carso.progress import duration
from carso.report.wording import away, brief

ATTACK, KIND, IMAGES, LEAVES, TIME = "attack", "kind", "images", "leaves (%)", "time"
SPARED = KIND, TIME, IMAGES
"""Columns that a narrow terminal does without, as few as it takes, from the first."""


def print_audit(audit: Audit) -> None:
    """Print the verdict: every attack of every budget, the worst case, and the checks."""
    console = Console()
    console.print(Text(title(audit), style="bold"))
    for found in audit.budgets:
        console.print()
        console.print(_table(found, console.width, plain=console.color_system is None))
        console.print(Text(headline(found, audit.votes), style="bold"))
        if found.turned_away is not None:
            console.print(Text(away(found.turned_away)))
    console.print()
    for line in doubts(audit):
        console.print(line)


def title(audit: Audit) -> str:
    """What was audited, on what, and how."""
    return (
        f"Audit of {audit.target}: {audit.effort} effort, {audit.n} images of {audit.dataset}, seed {audit.seed}, "
        + (f"judged by {audit.votes} fresh votes each" if audit.votes > 1 else "deterministic")
    )


def headline(found: BudgetResult, votes: int) -> str:
    """The worst case of a budget, in a sentence."""
    rest = f"; any wrong vote of {votes} counted, {brief(found.worst_of_k)}" if votes > 1 else ""
    return f"{found.title}: clean {brief(found.clean)}, worst case {brief(found.worst_case)}{rest}"


def doubts(audit: Audit) -> list[Text]:
    """One line per check that is raised, or one that none is."""
    if not audit.raised:
        return [Text(f"None of {len(audit.checks)} checks is raised.", style="green")]
    lines = [Text(f"{len(audit.raised)} of {len(audit.checks)} checks are raised; do not rely on these figures:")]
    for check in audit.raised:
        at = f" at {check.budget}" if check.budget else ""
        value = f" ({check.value:g} > {check.threshold:g}{at}): {check.meaning}"
        lines.append(Text.assemble("  ", (check.name, "bold red"), value))
    return lines


def _table(found: BudgetResult, width: int, plain: bool) -> Table:
    """Of `width` characters at most; `plain` where nothing can be bold."""
    mark = "*" if plain else "bold"
    table = Table(title=found.title, title_style="bold", title_justify="left")
    table.caption = f"{mark}: strongest alone; +: on what the attacks above it left, the figure is theirs together"
    cells = _cells(found, plain)
    for name in SPARED:
        if _width(cells) > width:
            del cells[name]
    figures = _longest([LEAVES, *cells[LEAVES]])
    most = {ATTACK: width - figures - 7, LEAVES: figures} if _width(cells) > width else {}
    for name in cells:
        table.add_column(
            name,
            style="dim" if name in (KIND, TIME) else "",
            justify="left" if name in (ATTACK, KIND) else "right",
            overflow="fold",
            no_wrap=name != LEAVES and not (name == ATTACK and most),
            min_width=figures if name == LEAVES else None,
            max_width=most.get(name),
        )
    for attack, *row in zip(found.attacks, *cells.values(), strict=True):
        style = "bold" if attack.name == found.strongest else ""
        told = [_leaves(attack) if name == LEAVES else text for name, text in zip(cells, row, strict=True)]
        table.add_row(*map(Text, told), style=style)
    return table


def _cells(found: BudgetResult, plain: bool) -> dict[str, list[str]]:
    """What stands in every column; why an attack was left out is told in the lines that there are, and takes none."""
    attacks = found.attacks
    return {
        ATTACK: [_name(each, plain and each.name == found.strongest) for each in attacks],
        KIND: [each.kind for each in attacks],
        IMAGES: [str(each.attacked) for each in attacks],
        LEAVES: ["" if each.left_out is not None else _leaves(each) for each in attacks],
        TIME: [duration(each.seconds) for each in attacks],
    }


def _width(cells: Mapping[str, Sequence[str]]) -> int:
    """Characters that the columns take with their frame."""
    return sum(_longest([name, *column]) + 3 for name, column in cells.items()) + 1


def _longest(cells: Iterable[str]) -> int:
    return max(len(line) for cell in cells for line in cell.split("\n"))


def _name(attack: AttackResult, starred: bool) -> str:
    return ("* " if starred else "") + ("" if attack.on == "all" else "+ ") + attack.name


def _leaves(attack: AttackResult) -> str:
    """A figure to a line."""
    if attack.left_out is not None:
        return f"left out: {attack.left_out}"
    lines = [brief(attack.result)]
    if attack.claimed is not None:
        lines.append(f"claims {attack.claimed.accuracy:.1f}")
    if attack.known is not None:
        lines.append(f"latents known {attack.known.accuracy:.1f}")
    return "\n".join(lines)
