"""Write docs/comparison.md from benchmarks/results/STUDY/comparison.json, which `carso reproduce STUDY` leaves.

python -m benchmarks.docs.comparison
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

from carso.audit.checks import DOUBTS
from carso.comparison import NAMES, Comparison, read_comparison, read_study
from carso.comparison.page import MARGIN, adaptive, certified, checks, compared, each, heads, left, on_n, trained
from carso.comparison.results import Line
from carso.comparison.study import Entry
from carso.report.wording import brief, budget
from carso.types import Norm

ROOT = Path(__file__).parents[2]
RESULTS, OTHER = (ROOT / "benchmarks" / "results" / name for name in NAMES)
TEMPLATE, READING = Path(__file__).with_suffix(".md"), Path(__file__).with_name("comparison-reading.md")
PAGE = ROOT / "docs" / "comparison.md"
UNTOLD = f"Where no number of checks stands, the record does not tell; it may be fewer than the {len(DOUBTS)} of today."


def table(head: Sequence[str], lines: Sequence[Sequence[str]], figures: int) -> str:
    """Of Markdown; the columns of figures, which come after the first, to the right."""
    rules = ["---", *["---:"] * figures, *["---"] * (len(head) - 1 - figures)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rules, *lines))


def audits(found: Comparison) -> str:
    """What was left of each, under which audit, and what the audit doubts; and whether each says of how many checks."""
    radii = heads(found)
    head = ["defence", "clean", *(budget(*ball) for ball in radii), "n, effort", "checks raised", "attacks on N"]
    lines = [_audited(line, radii, f"carso reproduce {found.study}/{line.name}") for line in found.entries]
    told = all(line.audit.made for line in found.entries)
    return table(head, lines, len(radii) + 1) + ("" if told else f"\n\n{UNTOLD}")


def _audited(line: Line, radii: Sequence[tuple[Norm, float]], command: str) -> list[str]:
    worst, other = [left(line, *ball) for ball in radii], line.unforeseen
    return [
        f"`{line.name}`<br><small>{command}</small>",
        brief(line.audit.budgets[0].clean),
        *("" if one is None else brief(one) for one in worst),
        f"{line.audit.n:,}, {line.audit.effort}; {other.norm} {other.n}, {other.effort}",
        checks(line),
        on_n(line),
    ]


def certificates(found: Comparison) -> str:
    """What certificates are worth, a paragraph for each defence that certifies."""
    told = [f"Right and certified in L2, for `{e.name}`: {certified(e)}." for e in found.entries if certified(e)]
    return "".join(f"\n{fill(each, 130, break_on_hyphens=False)}\n" for each in told)


def costs(found: Comparison) -> str:
    """Training, weights and seconds of each."""
    lines = [
        [f"`{line.name}`: {line.about}", trained(line), f"{line.figures.weights:,}", each(line)]
        for line in found.entries
    ]
    return table(["defence", "training", "weights", "a prediction"], lines, 3)


def literature(found: Comparison) -> str:
    """What papers report, beside what ours is of."""
    lines = [
        [f"`{line.name}`", each.says, adaptive(each), compared(line, each), each.source, each.differs]
        for line in found.entries
        for each in line.published
    ]
    asked = ["published", "left by an adaptive attack", "left by ours", "source", "how ours differs"]
    return table(["defence", *asked], lines, 0)


def reworded(found: Comparison) -> Comparison:
    """The record, with what the study says of its entries today."""
    entries = read_study(found.study).entries
    lines = [said(line, entries[line.name]) if line.name in entries else line for line in found.entries]
    return found.model_copy(update={"entries": lines})


def said(line: Line, entry: Entry) -> Line:
    """A line in the words of its entry, and with the cost that a network has by definition."""
    words = {"about": entry.about, "published": list(entry.published), "figures": line.figures.told(entry)}
    return line.model_copy(update=words)


def missing(found: Comparison) -> str:
    """Which entries of the study are not there, in a sentence."""
    there = {line.name for line in found.entries}
    absent = [f"`{name}`" for name in read_study(found.study).entries if name not in there]
    return f"Not carried out for this page: {', '.join(absent)}." if absent else "Every entry of the study is here."


def processors(found: Comparison) -> str:
    """Which processor took which seconds."""
    own: dict[str, list[str]] = {}
    for line in found.entries:
        own.setdefault(line.figures.cpu, []).append(line.name)
    if len(own) == 1:
        return next(iter(own))
    most = max(own, key=lambda cpu: len(own[cpu]))
    others = "; ".join(f"{', '.join(f'`{n}`' for n in names)}: {cpu}" for cpu, names in own.items() if cpu != most)
    return f"{most} ({others})"


def page(found: Comparison, other: Comparison) -> str:
    """The whole page, of the two studies."""
    found, other, where = reworded(found), reworded(other), found.environment
    return TEMPLATE.read_text(encoding="utf-8").format(
        audits=audits(found),
        certificates=certificates(found),
        reading=READING.read_text(encoding="utf-8").format(missing=missing(found)),
        costs=costs(found),
        literature=literature(found),
        margin=f"{MARGIN:g}",
        other=audits(other),
        other_data=other.dataset,
        other_seed=other.seed,
        other_missing=missing(other),
        other_command=other.command,
        cpu=processors(found),
        other_cpu=processors(other),
        torch=where.torch,
        carso=where.carso,
        **found.model_dump(include={"dataset", "seed", "command"}),
    )


def main() -> None:
    PAGE.write_text(page(read_comparison(RESULTS), read_comparison(OTHER)), encoding="utf-8")


if __name__ == "__main__":
    main()
