"""Write docs/comparison.md from benchmarks/results/rivals/comparison.json, which `carso reproduce rivals` leaves.

python -m benchmarks.docs.comparison
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carso.comparison import Comparison, read_comparison, read_study
from carso.comparison.page import adaptive, checks, each, heads, left, trained, weakest
from carso.comparison.results import Line
from carso.report.wording import ATTACKS, brief, budget

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "rivals"
TEMPLATE, READING = Path(__file__).with_suffix(".md"), Path(__file__).with_name("comparison-reading.md")
PAGE = ROOT / "docs" / "comparison.md"


def table(head: Sequence[str], lines: Sequence[Sequence[str]], rule: str = "---:") -> str:
    """Of Markdown; all columns but the first by one rule."""
    rules = ["---", *[rule] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rules, *lines))


def audits(found: Comparison) -> str:
    """What was left of each, under which audit, and what the audit doubts."""
    radii = heads(found)
    head = ["defence", "clean", *(budget(*ball) for ball in radii), "n, effort", "checks raised", "attacks on N"]
    return table(head, [_audited(line, radii) for line in found.entries])


def _audited(line: Line, radii: Sequence[tuple[str, float]]) -> list[str]:
    worst = [left(line, *ball) for ball in radii]
    row, other = weakest(line), line.unforeseen
    return [
        f"`{line.name}`",
        brief(line.audit.budgets[0].clean),
        *("" if one is None else brief(one) for one in worst),
        f"{line.audit.n:,}, {line.audit.effort}; {other.norm} {other.n}, {other.effort}",
        checks(line.audit),
        f"{brief(row.result)}, {ATTACKS.get(row.attack, row.attack)}",
    ]


def costs(found: Comparison) -> str:
    """Training, weights and seconds of each."""
    lines = [
        [f"`{line.name}`: {line.about}", trained(line), f"{line.figures.weights:,}", each(line)]
        for line in found.entries
    ]
    return table(["defence", "training", "weights", "a prediction"], lines)


def literature(found: Comparison) -> str:
    """What papers report, beside what ours is of."""
    lines = [
        [f"`{line.name}`", published.says, adaptive(published), published.source, published.differs]
        for line in found.entries
        for published in line.published
    ]
    return table(
        ["defence", "published", "left by an adaptive attack", "source", "why ours is of something else"], lines, "---"
    )


def commands(found: Comparison) -> str:
    """The command of each row."""
    return "\n".join(f"- `carso reproduce rivals/{line.name}`" for line in found.entries)


def page(found: Comparison) -> str:
    """The whole page."""
    where, there = found.environment, {line.name for line in found.entries}
    missing = ", ".join(f"`{name}`" for name in read_study().entries if name not in there) or "none"
    return TEMPLATE.read_text(encoding="utf-8").format(
        audits=audits(found),
        reading=READING.read_text(encoding="utf-8").format(missing=missing),
        costs=costs(found),
        literature=literature(found),
        commands=commands(found),
        cpu=where.cpu,
        torch=where.torch,
        carso=where.carso,
        **found.model_dump(include={"dataset", "seed", "command"}),
    )


def main() -> None:
    PAGE.write_text(page(read_comparison(RESULTS)), encoding="utf-8")


if __name__ == "__main__":
    main()
