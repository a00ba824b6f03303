"""Write docs/does-it-help.md and its figure from the audits in benchmarks/results: classifiers alone, and CARSO on them.

python benchmarks/docs/ladder.py
"""

from dataclasses import dataclass
from pathlib import Path

from carso.audit import Audit, read_audit
from carso.evaluation.interval import apart
from carso.evaluation.results import Rate

ROOT = Path(__file__).parents[2]
RESULTS, DOCS = ROOT / "benchmarks" / "results", ROOT / "docs"
EPS = 0.3
WIDTH, ROW, LEFT, TOP = 760, 46, 250, 34


@dataclass(frozen=True)
class Rung:
    """A classifier, and the audits of it alone and of CARSO on it.

    Args:
        name: in words.
        made: the commands.
        alone: folder of its audit.
        carso: folder of the audit of CARSO on it, if there is one.
        how: what that CARSO is.
    """

    name: str
    made: str
    alone: str
    carso: str | None = None
    how: str = ""


RUNGS = (
    Rung(
        "784-200-80-10, the thesis's training",
        "`carso train classifier thesis`",
        "strong-audit/adversarially_trained",
        "strong-audit/carso",
        "recipe `strong`: a dense purifier with convolutions, hardened with true labels",
    ),
    Rung(
        "convolutions of 4.4 million weights",
        "`carso train classifier control`",
        "strong-audit/control",
    ),
    Rung(
        "CNN of 312 thousand weights, TRADES, by others",
        "`benchmarks.runs.stranger:public`",
        "ladder/public-cnn",
        "ladder/public-cnn-carso",
        "`carso harden` for 20 minutes, N frozen, no labels: the corrective purifier, with contrast",
    ),
    Rung(
        "the same CNN behind contrast",
        "`carso train classifier robust-cnn`",
        "ladder/robust-cnn",
    ),
)


def found(folder: str | None) -> Audit | None:
    return None if folder is None else read_audit(RESULTS / folder)


def worst(audit: Audit) -> Rate:
    (budget,) = (budget for budget in audit.budgets if abs(budget.eps - EPS) < 1e-9)
    return budget.worst_case


def clean(audit: Audit) -> Rate:
    return audit.budgets[0].clean


def cell(rate: Rate) -> str:
    low, high = rate.ci95
    return f"{rate.accuracy:.1f} [{low:.1f}, {high:.1f}]"


def told(alone: Audit, carso: Audit | None) -> str:
    """Which of two stands higher at the radius, if their intervals lie apart."""
    if carso is None:
        return ""
    if not apart(worst(alone).ci95, worst(carso).ci95):
        return "not told apart"
    return "CARSO" if worst(carso).accuracy > worst(alone).accuracy else "N alone"


def raised(audit: Audit) -> str:
    return ", ".join(check.name for check in audit.raised) or "none"


def table(rungs: list[tuple[Rung, Audit, Audit | None]]) -> str:
    lines = [
        f"| classifier N | made by | what was attacked | n | clean | worst case at {EPS:.2f} | checks raised | higher |",
        "|---|---|---|---:|---:|---:|---|---|",
    ]
    for rung, alone, carso in rungs:
        figures = (alone.n, cell(clean(alone)), cell(worst(alone)), raised(alone))
        lines.append(f"| {rung.name} | {rung.made} | N alone | {' | '.join(map(str, figures))} | |")
        if carso is not None:
            figures = (carso.n, cell(clean(carso)), cell(worst(carso)), raised(carso))
            lines.append(f"| | {rung.how} | CARSO | {' | '.join(map(str, figures))} | {told(alone, carso)} |")
    return "\n".join(lines)


def figure(rungs: list[tuple[Rung, Audit, Audit | None]]) -> str:
    """Worst cases with their intervals, rung by rung; a point for N alone, a ring for CARSO."""
    height, across = TOP + ROW * len(rungs) + 40, WIDTH - LEFT - 30

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
    parts.append(f'<text x="{LEFT}" y="18" fill="#555">worst case at {EPS:.2f}: &#9679; N alone, &#9675; CARSO</text>')
    for i, (rung, alone, carso) in enumerate(rungs):
        y = TOP + ROW * i + ROW / 2
        parts.append(f'<text x="{LEFT - 12}" y="{y + 4}" text-anchor="end">{wrapped(rung.name, y)}</text>')
        for audit, offset, fill in ((alone, -6, "#333"), (carso, 6, "#fff")):
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


HEAD = """# Does it help?

Does a purifier add anything to a classifier that is already strong? Every row is an audit (`carso audit --effort standard`),
MNIST's first n test images, seed 0, worst case over every attack on the whole of what is named, each verdict on fresh latents.
The page is written by `python benchmarks/docs/ladder.py` from the audits in `benchmarks/results`.

![Worst cases of classifiers alone and of CARSO on them](ladder.svg)

"""


def main() -> None:
    rungs = [(rung, alone, found(rung.carso)) for rung in RUNGS if (alone := found(rung.alone)) is not None]
    text = (ROOT / "benchmarks" / "docs" / "ladder.md").read_text(encoding="utf-8")
    (DOCS / "ladder.svg").write_text(figure(rungs), encoding="utf-8")
    (DOCS / "does-it-help.md").write_text(f"{HEAD}{table(rungs)}\n\n{text}", encoding="utf-8")


if __name__ == "__main__":
    main()
