"""Write docs/does-it-help.md and its figure from audits of classifiers alone, and of purifiers before them.

python -m benchmarks.docs.ladder
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.docs import beyond
from benchmarks.docs.early import MARK, fewer, lacking, note, raised
from benchmarks.docs.joined import joined

from carso.audit import Audit, read_audit
from carso.evaluation.interval import sign
from carso.evaluation.results import Rate
from carso.report.wording import brief

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE, FIGURE = ROOT / "docs" / "does-it-help.md", ROOT / "docs" / "ladder.svg"
EPS, SMALL = 0.3, 0.15
WIDTH, ROW, LEFT, TOP, APART = 760, 46, 270, 34, 12
MARKS = {"N alone": "plain", "CARSO": "carso", "N behind contrast": "contrast"}
"""What is attacked as a whole -> its class in the figure."""
RIGHTMOST = 80.0
"""Per cent up to which a name stands to the right of its point."""
STYLE = """
  .paper, .open { fill: #ffffff; } .ink { fill: #15171c; } .soft { fill: #545b67; } .grid { stroke: #dde0e6; }
  .plain { color: #333333; } .carso { color: #c2410c; } .contrast { color: #0f766e; }
  .mark { stroke: currentColor; stroke-width: 2; } .plain .mark { fill: currentColor; } .named { fill: currentColor; }
  @media (prefers-color-scheme: dark) {
    .paper, .open { fill: #121418; } .ink { fill: #e9ebef; } .soft { fill: #a5acb9; } .grid { stroke: #2f343d; }
    .plain { color: #ced2da; } .carso { color: #f08c4b; } .contrast { color: #5ec4b6; } }
"""


@dataclass(frozen=True)
class Subject:
    """What is attacked as a whole.

    Args:
        name: in words.
        made: how, or by which command.
        folder: of its audit, or of several.
    """

    name: str
    made: str
    folder: str | tuple[str, ...]

    @property
    def audit(self) -> Audit:
        return joined(self.folder)

    @property
    def recipe(self) -> str:
        """The recipe that made it, if it was reproduced."""
        found = re.search(r"`carso reproduce (\S+)`", self.made)
        return found[1] if found else ""


@dataclass(frozen=True)
class Rung:
    """A classifier alone, and what was put before it.

    Args:
        name: of the classifier, in words.
        alone: the classifier.
        behind: defences of it.
    """

    name: str
    alone: Subject
    behind: tuple[Subject, ...] = ()


def alone(made: str, folder: str | tuple[str, ...]) -> Subject:
    return Subject("N alone", made, folder)


def contrast(made: str, folder: str) -> Subject:
    return Subject(
        "N behind contrast", f"`benchmarks.runs.contrast:{made}`; N frozen, nothing trained, no labels", folder
    )


RUNGS = (
    Rung(
        "784-200-80-10, the thesis's training",
        alone("`carso train classifier thesis`", "strong-audit/adversarially_trained"),
        (
            Subject("CARSO", "`carso reproduce thesis`: as in the thesis, no labels", "thesis-audit/carso"),
            Subject(
                "CARSO",
                "`carso reproduce strong`: a dense purifier with convolutions, hardened with true labels",
                "strong-audit/carso",
            ),
            contrast("thesis", "ladder/thesis-contrast"),
        ),
    ),
    Rung(
        "784-200-80-10, the thesis's training once more",
        alone("`carso train classifier strong-unlabelled`", "strong-unlabelled-audit/adversarially_trained"),
        (
            Subject(
                "CARSO",
                "`carso reproduce strong-unlabelled`: as `strong`, but no labels",
                "strong-unlabelled-audit/carso",
            ),
        ),
    ),
    Rung(
        "784-200-80-10, annealed attacks, two losses",
        alone("`carso train classifier robust-mlp`", "ladder/robust-mlp"),
    ),
    Rung(
        "convolutions of 4.4 million weights",
        alone("`carso train classifier control`", "strong-audit/control"),
    ),
    Rung(
        "784-200-80-10 behind contrast, trained there",
        alone("`carso train classifier robust-mlp-contrast`", "ladder/robust-mlp-contrast"),
        (
            Subject(
                "CARSO",
                "`carso reproduce strong-contrast`: the purifier of `strong`, its image behind contrast, true labels",
                "strong-contrast-audit/carso",
            ),
        ),
    ),
    Rung(
        "CNN of 312 thousand weights, trained by others, TRADES",
        alone("`benchmarks.own.strangers:public`", "ladder/public-cnn"),
        (contrast("public", "ladder/public-cnn-contrast"),),
    ),
    Rung(
        "the same CNN behind contrast, trained there",
        alone("`carso train classifier robust-cnn`", ("ladder/robust-cnn", "ladder/robust-cnn-0.15")),
    ),
    Rung(
        "the same behind contrast, of 0.4 in place of 0.3",
        alone("that recipe, with contrast 0.4", "ladder/robust-cnn-0.4"),
    ),
)


def worst(audit: Audit, eps: float = EPS) -> Rate | None:
    """The rate at a radius; None if the audit is of others."""
    found = [budget.worst_case for budget in audit.budgets if abs(budget.eps - eps) < 1e-9]
    return found[0] if found else None


def at_figure(audit: Audit) -> Rate:
    """The rate at the radius of the figure, which every audit has."""
    found = worst(audit)
    assert found is not None
    return found


def told(first: Audit, second: Audit, name: str) -> str:
    """Which of two stands higher at the radius of the figure, if the interval of their difference leaves out 0."""
    gained = at_figure(second).above(at_figure(first))
    return {1: name, -1: "N alone", 0: "not told apart"}[sign(gained)]


def figures(audit: Audit) -> str:
    rates = (audit.budgets[0].clean, worst(audit, SMALL), worst(audit))
    n = f"{audit.n:,}" if audit.effort == "standard" else f"{audit.n:,}, {audit.effort}"
    marked = f"{n} {MARK}" if lacking(audit) else n
    cells = (marked, *("" if each is None else brief(each) for each in rates), raised(audit))
    return " | ".join(cells)


def table() -> str:
    lines = [
        f"| classifier N | made by | attacked as a whole | n | clean | worst case at {SMALL:.2f} | at {EPS:.2f} "
        f"| checks raised | higher at {EPS:.2f} |",
        "|---|---|---|---:|---:|---:|---:|---|---|",
    ]
    for rung in RUNGS:
        first = rung.alone
        lines.append(f"| {rung.name} | {first.made} | {first.name} | {figures(first.audit)} | |")
        for whole in rung.behind:
            verdict = told(first.audit, whole.audit, whole.name)
            lines.append(f"| | {whole.made} | {whole.name} | {figures(whole.audit)} | {verdict} |")
    said = note(subject.audit for rung in RUNGS for subject in (rung.alone, *rung.behind))
    return "\n".join([*lines, "", said] if said else lines)


def figure() -> str:
    """Worst cases with their intervals, by rung: N alone a point, a purifier before it a ring, contrast a square."""
    height = TOP + ROW * len(RUNGS) + 40
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="13"><style>{STYLE}</style><rect class="paper" width="{WIDTH}" height="{height}" rx="12"/>'
    ]
    for percent in range(0, 101, 20):
        x = at(percent)
        parts.append(f'<line class="grid" x1="{x:g}" y1="{TOP - 8}" x2="{x:g}" y2="{height - 34}"/>')
        parts.append(f'<text class="soft" x="{x:g}" y="{height - 16}" text-anchor="middle">{percent} %</text>')
    key = (
        f"worst case at {EPS:.2f}: &#9679; N alone, "
        '<tspan class="carso named">&#9675; behind a trained purifier, and its recipe</tspan>, '
        '<tspan class="contrast named">&#9633; behind contrast alone</tspan>'
    )
    parts.append(f'<text class="soft" x="20" y="18">{key}</text>')
    for i, rung in enumerate(RUNGS):
        y = TOP + ROW * i + ROW / 2
        label = wrapped(rung.name, y)
        parts.append(f'<text class="ink" x="{LEFT - 12}" y="{y + 4:g}" text-anchor="end">{label}</text>')
        for place, subject in enumerate((rung.alone, *rung.behind)):
            parts.append(mark(subject, y + APART * (place - len(rung.behind) / 2)))
    return "".join([*parts, "</svg>\n"])


def at(percent: float) -> float:
    """Where a rate stands across the figure."""
    return round(LEFT + (WIDTH - LEFT - 30) * percent / 100, 2)


def mark(subject: Subject, y: float) -> str:
    """A worst case with its interval, and the recipe where there is one."""
    kind, found = MARKS[subject.name], at_figure(subject.audit)
    x, (low, high) = at(found.accuracy), map(at, found.ci95)
    shape = f'<circle class="mark open" cx="{x:g}" cy="{y:g}" r="4.5"/>'
    if kind == "contrast":
        shape = f'<rect class="mark open" x="{x - 4:g}" y="{y - 4:g}" width="8" height="8"/>'
    name = ""
    if subject.recipe:
        left = found.accuracy > RIGHTMOST
        beside = f'x="{low - 6:g}" text-anchor="end"' if left else f'x="{high + 6:g}"'
        name = f'<text class="named" {beside} y="{y + 4:g}" font-size="11">{subject.recipe}</text>'
    line = f'<line class="mark" x1="{low:g}" y1="{y:g}" x2="{high:g}" y2="{y:g}"/>'
    return f'<g class="{kind}">{line}{shape}{name}</g>'


def wrapped(name: str, y: float) -> str:
    """A name on two lines where it has a comma."""
    first, comma, rest = name.partition(", ")
    if not comma:
        return first
    x = LEFT - 12
    return f'<tspan x="{x}" y="{y - 3}">{first},</tspan><tspan x="{x}" y="{y + 13}">{rest}</tspan>'


def exact() -> str:
    """What an attack leaves whose gradient is passed by contrast, and the same one behind it, where it is exact."""
    found = json.loads((RESULTS / "ladder" / "exact.json").read_text(encoding="utf-8"))
    lines = [
        "| subject | gradient passed through | exact gradient | broken by the first alone | by the second alone |",
        "|---|---:|---:|---:|---:|",
    ]
    for row in found["rows"]:
        rates = " | ".join(brief(Rate.model_validate(row[name])) for name in ("passed", "exact"))
        lines.append(f"| {row['subject']} | {rates} | {row['only_passed']} | {row['only_exact']} |")
    effort = f"{found['steps']} steps, {found['restarts']} restarts, seeds from 0"
    return "\n".join([*lines, "", f"n = {found['n']:,}, Linf {found['eps']:.2f}, {effort}."])


MECHANISM = ("mnist-strong",)
"""Defences that were taken apart."""

UNFORESEEN = {
    "N of `strong-contrast`: recipe `robust-mlp-contrast`, trained once more": (
        "strong-contrast-L2-audit/adversarially_trained"
    ),
    "`robust-mlp-contrast`, under earlier attacks": "ladder/robust-mlp-contrast-L2",
    "CARSO, hardened around the first (`strong-contrast`)": "strong-contrast-L2-audit/carso",
    "CNN trained by others": "ladder/public-cnn-L2",
    "CARSO, hardened (`strong`)": "strong-L2-audit/carso",
    "its N": "strong-L2-audit/adversarially_trained",
}
"""Audits in L2, for which nothing was trained."""

SPARSE = {
    "CARSO, hardened (`strong-contrast`)": "ladder/strong-contrast-L1",
    "its N, a `robust-mlp-contrast`": "ladder/strong-contrast-classifier-L1",
    "CARSO, hardened (`strong`)": "ladder/strong-L1",
    "its N": "ladder/strong-classifier-L1",
    "CNN trained by others": "ladder/public-cnn-L1",
}
"""Audits in L1, likewise."""


def unforeseen() -> str:
    """What audits in L2 left, and along how few of the pixels they went."""
    return _left(UNFORESEEN, "pixels of a step, of 784", _pixels)


def sparse() -> str:
    """What audits in L1 left, and which of their checks doubt it."""
    table = _left(SPARSE, "checks raised", raised)
    said = fewer(read_audit(RESULTS / folder) for folder in SPARSE.values())
    return f"{table}\n\nChecks {said}." if said else table


def _left(subjects: Mapping[str, str], more: str, told: Callable[[Audit], str]) -> str:
    """The table of what audits left at each radius, with a column more."""
    audits = {name: read_audit(RESULTS / folder) for name, folder in subjects.items()}
    radii = sorted({(budget.eps, budget.norm) for audit in audits.values() for budget in audit.budgets})
    lines = [
        f"| subject | {' | '.join(f'{norm} {eps:.1f}' for eps, norm in radii)} | n, effort | {more} |",
        f"|---|{'---:|' * len(radii)}---|---|",
    ]
    for name, audit in audits.items():
        left = {budget.eps: brief(budget.worst_case) for budget in audit.budgets}
        cells = " | ".join(left.get(eps, "") for eps, _ in radii)
        lines.append(f"| {name} | {cells} | {audit.n}, {audit.effort} | {told(audit)} |")
    return "\n".join(lines)


def _pixels(audit: Audit) -> str:
    """Along how many pixels the steps of the sparse attack went."""
    sparse = audit.budgets[0].find("pgd-annealed-sparse")
    if sparse is None:
        return "all: before there were fewer"
    return ", ".join(str(round(784 * share)) for share in sparse.options["shares"]) + ", or all"


def page() -> str:
    """The page, with its tables."""
    text = (ROOT / "benchmarks" / "docs" / "ladder.md").read_text(encoding="utf-8")
    parts: dict[str, Callable[[], str]] = {
        "table": table,
        "exact": exact,
        "L2": unforeseen,
        "L1": sparse,
        "corruptions": beyond.corruptions,
        "turned": beyond.turned_away,
        "mechanism": lambda: beyond.mechanism(MECHANISM),
    }
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part())
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    FIGURE.write_text(figure(), encoding="utf-8")
