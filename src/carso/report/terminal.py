"""An audit's verdict on the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from carso.audit.results import AttackResult, Audit, BudgetResult
from carso.progress import duration
from carso.report.wording import away, brief


def print_audit(audit: Audit) -> None:
    """Print the verdict: every attack of every budget, the worst case, and the checks."""
    console = Console()
    console.print(Text(title(audit), style="bold"))
    for found in audit.budgets:
        console.print()
        console.print(_table(found))
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


def _table(found: BudgetResult) -> Table:
    table = Table(title=found.title, title_style="bold", title_justify="left")
    table.add_column("attack")
    table.add_column("kind", style="dim")
    table.add_column("images", justify="right")
    table.add_column("leaves (%)", justify="right", no_wrap=True)
    table.add_column("time", justify="right", style="dim")
    for attack in found.attacks:
        style = "bold" if attack.name == found.strongest else ""
        table.add_row(
            _name(attack),
            attack.kind,
            str(attack.attacked),
            Text(_leaves(attack)),
            duration(attack.seconds),
            style=style,
        )
    table.caption = "bold: strongest alone; +: on what the attacks above it left, the figure is theirs together"
    return table


def _name(attack: AttackResult) -> str:
    return attack.name if attack.on == "all" else f"+ {attack.name}"


def _leaves(attack: AttackResult) -> str:
    if attack.left_out is not None:
        return f"left out: {attack.left_out}"
    parts = [brief(attack.result)]
    if attack.claimed is not None:
        parts.append(f"claims {attack.claimed.accuracy:.1f}")
    if attack.known is not None:
        parts.append(f"latents known {attack.known.accuracy:.1f}")
    return ", ".join(parts)
