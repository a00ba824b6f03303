"""Write docs/does-it-help.md and its figure from audits of classifiers alone, and of purifiers before them.

python -m benchmarks.docs.ladder
"""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.docs.results import rate

from carso.audit import Audit, read_audit
from carso.evaluation.interval import apart
from carso.evaluation.results import Rate

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE, FIGURE = ROOT / "docs" / "does-it-help.md", ROOT / "docs" / "ladder.svg"
EPS = 0.3
WIDTH, ROW, LEFT, TOP = 760, 46, 250, 34


@dataclass(frozen=True)
class Rung:
    """A classifier, and the audits of it alone and behind a purifier.

    Args:
        name: in words.
        made: by which command.
        alone: folder of its audit.
        behind: folder of the audit of the whole, if there is one.
        what: that whole, in words.
        how: it was made.
    """

    name: str
    made: str
    alone: str
    behind: str | None = None
    what: str = "CARSO"
    how: str = ""


RUNGS = (
    Rung(
        "784-200-80-10, the thesis's training",
        "`carso train classifier thesis`",
        "strong-audit/adversarially_trained",
        "strong-audit/carso",
        "CARSO",
        "`carso reproduce strong`: a dense purifier with convolutions, hardened with true labels",
    ),
    Rung(
        "convolutions of 4.4 million weights",
        "`carso train classifier control`",
        "strong-audit/control",
    ),
    Rung(
        "CNN of 312 thousand weights, trained by others, TRADES",
        "`benchmarks.runs.stranger:public`",
        "ladder/public-cnn",
        "ladder/public-cnn-contrast",
        "N behind contrast",
        "`benchmarks.runs.contrast:public`; N frozen, nothing trained, no labels",
    ),
    Rung(
        "the same CNN behind contrast, trained here",
        "`carso train classifier robust-cnn`",
        "ladder/robust-cnn",
    ),
)


def worst(audit: Audit) -> Rate:
    (budget,) = (budget for budget in audit.budgets if abs(budget.eps - EPS) < 1e-9)
    return budget.worst_case


def clean(audit: Audit) -> Rate:
    return audit.budgets[0].clean


def told(alone: Audit, behind: Audit, what: str) -> str:
    """Which of two stands higher at the radius, if their intervals lie apart."""
    return {1: what, -1: "N alone", 0: "not told apart"}[apart(worst(behind).ci95, worst(alone).ci95)]


def figures(audit: Audit) -> str:
    raised = ", ".join(check.name for check in audit.raised) or "none"
    return f"{audit.n:,} | {rate(clean(audit))} | {rate(worst(audit))} | {raised}"


def table(found: list[tuple[Rung, Audit, Audit | None]]) -> str:
    lines = [
        f"| classifier N | made by | attacked as a whole | n | clean | worst case at {EPS:.2f} | checks raised "
        "| higher |",
        "|---|---|---|---:|---:|---:|---|---|",
    ]
    for rung, alone, behind in found:
        lines.append(f"| {rung.name} | {rung.made} | N alone | {figures(alone)} | |")
        if behind is not None:
            lines.append(f"| | {rung.how} | {rung.what} | {figures(behind)} | {told(alone, behind, rung.what)} |")
    return "\n".join(lines)


def figure(found: list[tuple[Rung, Audit, Audit | None]]) -> str:
    """Worst cases with their intervals, rung by rung; a point for N alone, a ring for the whole behind a purifier."""
    height, across = TOP + ROW * len(found) + 40, WIDTH - LEFT - 30

    def at(percent: float) -> float:
        return LEFT + across * percent / 100

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="13"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for percent in range(0, 101, 20):
        x = at(percent)
        parts.append(f'<line x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{height - 34}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="{height - 16}" text-anchor="middle" fill="#555">{percent} %</text>')
    key = f"worst case at {EPS:.2f}: &#9679; N alone, &#9675; behind a purifier"
    parts.append(f'<text x="{LEFT}" y="18" fill="#555">{key}</text>')
    for i, (rung, alone, behind) in enumerate(found):
        y = TOP + ROW * i + ROW / 2
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{wrapped(rung.name, y)}</text>')
        for audit, offset, fill in ((alone, -6, "#333"), (behind, 6, "#fff")):
            if audit is not None:
                low, high = worst(audit).ci95
                colour = "#333" if audit is alone else "#c2410c"
                parts.append(
                    f'<line x1="{at(low)}" y1="{y + offset}" x2="{at(high)}" y2="{y + offset}" stroke="{colour}" '
                    f'stroke-width="2"/><circle cx="{at(worst(audit).accuracy)}" cy="{y + offset}" r="4.5" '
                    f'fill="{fill}" stroke="{colour}" stroke-width="2"/>'
                )
    return "".join([*parts, "</svg>\n"])


def wrapped(name: str, y: float) -> str:
    """A name on two lines where it has a comma."""
    first, comma, rest = name.partition(", ")
    if not comma:
        return first
    x = LEFT - 12
    return f'<tspan x="{x}" y="{y - 3}">{first},</tspan><tspan x="{x}" y="{y + 13}">{rest}</tspan>'


def rungs() -> list[tuple[Rung, Audit, Audit | None]]:
    """Every rung with its audits."""
    return [
        (rung, read_audit(RESULTS / rung.alone), read_audit(RESULTS / rung.behind) if rung.behind else None)
        for rung in RUNGS
    ]


def page() -> str:
    """The page, with its table."""
    text = (ROOT / "benchmarks" / "docs" / "ladder.md").read_text(encoding="utf-8")
    return text.replace("<!-- table -->", table(rungs()))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    FIGURE.write_text(figure(rungs()), encoding="utf-8")
