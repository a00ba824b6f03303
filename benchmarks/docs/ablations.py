"""Write docs/ablations.md from benchmarks/results/ablations/ablations.json, which `carso reproduce ablations` leaves.

Its statements are judged anew, by the study and the rule of today, in the record too; figures stay as they are.

python -m benchmarks.docs.ablations
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from carso.ablations import Ablations, read_ablations, read_study
from carso.ablations.page import RULE, beside, cells, heading, headline
from carso.ablations.results import Row, judged
from carso.report.wording import brief

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "ablations"
READING = Path(__file__).with_name("ablations-reading.md")
PAGE = ROOT / "docs" / "ablations.md"

HEAD = """# Ablations

Written by `python -m benchmarks.docs.ablations` from `benchmarks/results/ablations`; no figure and no verdict is typed
in. What each variant changes, and what the thesis says of it, is data: `src/carso/recipes/studies/ablations.yaml`.

{headline}.
{dataset}, the first n = {n:,} test images, seed {seed}; {cpu}, torch {torch}, carso {carso}.

All of it is made again by

    {command}

and one variant beside its base by `{one}`.
"""
TABLE = """
## {title}

Accuracy of the defence (%), with 95 % Wilson confidence intervals; + or - if its interval is above or below the base's.
{note}
"""
NOTES = {
    "classifier": "Attacks are crafted on the classifier N alone and handed on: a transfer threat model, the thesis's.",
    "defence": "Attacks on each whole defence, gradients through the purifier; not comparable with the table above.",
}
STATEMENTS = f"""
## What the thesis says of its ablations

{RULE}

| statement | place | verdict | hold | fail | open |
| --- | --- | --- | ---: | ---: | ---: |
"""
MARKS = {"above": " +", "below": " -", "": ""}


def cell(row: Row | None) -> str:
    """An accuracy with its interval, and whether it lies apart from the base's."""
    return "" if row is None else brief(row) + MARKS[beside(row)]


def line(cells: Sequence[str]) -> str:
    """Of a table."""
    return f"| {' | '.join(cells)} |"


def table(found: Ablations, aim: str, title: str) -> str:
    """Variants down, the attacks with one aim across."""
    heads = [heading(row) for row in found.base if row.directed_at == aim]
    lines = [line(["variant", *heads]), line(["---", *["---:"] * len(heads)])]
    for name, rows in (("base", found.base), *((variant.name, variant.rows) for variant in found.variants)):
        shown = zip(found.base, cells(rows, found), strict=True)
        lines.append(line([f"`{name}`", *(cell(own) for base, own in shown if base.directed_at == aim)]))
    counts = sorted({row.n for row in found.base if row.directed_at == aim})
    note = f"{NOTES[aim]} n = {', '.join(f'{n:,}' for n in counts)}."
    return TABLE.format(title=title, note=note) + "\n" + "\n".join(lines) + "\n"


def statements(found: Ablations) -> str:
    """Each with its verdict."""
    lines = []
    for each in found.statements:
        says = each.says + (f" ({each.reason})" if each.reason else "")
        lines.append(line([says, each.place, f"**{each.verdict}**", str(each.holds), str(each.fails), str(each.open)]))
    return STATEMENTS + "\n".join(lines) + "\n"


def variants(found: Ablations) -> str:
    """What each changes."""
    return "\n## The variants\n\n" + "\n".join(f"- `{each.name}`: {each.about}" for each in found.variants) + "\n"


def page(found: Ablations) -> str:
    """The whole page."""
    where = found.environment
    about = {"headline": headline(found), "cpu": where.cpu, "torch": where.torch, "carso": where.carso}
    one = found.command.replace("ablations", "ablations/NAME", 1)
    head = HEAD.format(one=one, **about, **found.model_dump(include={"dataset", "n", "seed", "command"}))
    tables = [table(found, "classifier", "Attacks on the classifier"), table(found, "defence", "Attacks end to end")]
    return "".join([head, *tables, "\n" + READING.read_text(encoding="utf-8"), statements(found), variants(found)])


def main() -> None:
    found = judged(read_study(), read_ablations(RESULTS))
    found.write(RESULTS)
    PAGE.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
