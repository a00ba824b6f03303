"""Tables of docs/does-it-help.md beyond worst cases: corruptions, what is turned away, what the gain is made of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from carso.audit import read_audit
from carso.evaluation.results import Rate, ResultRow, read_results
from carso.report.wording import brief, name_of

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Corrupted:
    """A column of an evaluation under corruptions, and what the page calls it."""

    name: str
    folder: str
    column: str

    @property
    def rows(self) -> list[ResultRow]:
        return read_results(RESULTS / "corruptions" / self.folder).rows

    def rate(self, row: ResultRow) -> Rate:
        return row.rates()[self.column]


CORRUPTED = (
    Corrupted("undefended", "mnist-strong", "undefended"),
    Corrupted("the thesis's N", "mnist-strong", "adversarially_trained"),
    Corrupted("CARSO before it (`strong`)", "mnist-strong", "carso"),
    Corrupted("robust-mlp-contrast", "mnist-strong-contrast", "adversarially_trained"),
    Corrupted("CARSO before that (`strong-contrast`)", "mnist-strong-contrast", "carso"),
    Corrupted("robust-cnn", "robust-cnn", "adversarially_trained"),
    Corrupted("CNN trained by others", "public-cnn", "classifier"),
)


def table(header: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table in Markdown, its first columns to the left."""
    ruler = ["---"] * left + ["---:"] * (len(header) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, ruler, *lines))


def corruptions() -> str:
    """Right answers by kind of corruption, in the mean of its severities, and in the worst pose."""
    kinds = dict.fromkeys(row.attack for row in CORRUPTED[0].rows if row.norm and row.attack != "spatial")
    lines = [["no corruption", *(_mean(subject, ["none"]) for subject in CORRUPTED)]]
    lines += [[name_of(kind).lower(), *(_mean(subject, [kind]) for subject in CORRUPTED)] for kind in kinds]
    lines += [["**all of them**", *(f"**{_mean(subject, list(kinds))}**" for subject in CORRUPTED)]]
    poses = [row for row in CORRUPTED[0].rows if row.attack == "spatial"]
    for place, pose in enumerate(poses):
        turned = [[row for row in subject.rows if row.attack == "spatial"][place] for subject in CORRUPTED]
        rates = [brief(subject.rate(row)) for subject, row in zip(CORRUPTED, turned, strict=True)]
        lines.append([f"worst pose, severity {pose.eps:g}", *rates])
    return table(["", *(subject.name for subject in CORRUPTED)], lines)


def _mean(subject: Corrupted, kinds: list[str]) -> str:
    rates = [subject.rate(row).accuracy for row in subject.rows if row.attack in kinds]
    return f"{sum(rates) / len(rates):.1f}"


PARTS = {
    "N": "N on the image itself",
    "code": "a linear classifier of the code, trained on clean images",
    "drilled": "the same, trained on attacked images too",
    "zero": "N on what z = 0 recalls",
    "vote": "N on what 15 random z recall: the defence",
    "least": "right on each of 64 recalled images: z chosen by the attacker",
    "handed": "the first linear classifier, on images made against the vote",
}


def mechanism(names: Sequence[str]) -> str:
    """What every part keeps by itself, of each defence."""
    found = {name: json.loads((RESULTS / "mechanism" / f"{name}.json").read_text(encoding="utf-8")) for name in names}
    rates = {
        (name, row["part"], row["eps"]): brief(Rate.model_validate(row))
        for name, record in found.items()
        for row in record["rows"]
    }
    lines = [
        [found[name]["defence"], said, *(rates.get((name, part, eps), "") for eps in (0.0, 0.15, 0.3))]
        for name in names
        for part, said in PARTS.items()
    ]
    first = found[names[0]]
    effort = f"{first['steps']} steps, two losses, {first['repeats']} runs of each; 64 candidates, 15 votes"
    return (
        table(["defence", "part, attacked by itself", "clean", "Linf 0.15", "Linf 0.30"], lines, 2)
        + f"\n\nThe first {first['n']:,} test images, seed {first['seed']}, annealed PGD, {effort}."
    )


TURNED = {
    "CARSO before the thesis's N (`strong`)": "detection/mnist-strong",
    "robust-mlp-contrast, the N of `strong-contrast`, by its confidence": "detection/mnist-strong-contrast/classifier",
    "CARSO before that N (`strong-contrast`)": "detection/mnist-strong-contrast/carso",
    "robust-cnn, by its confidence": "detection/robust-cnn",
    "CNN trained by others, by its confidence": "detection/public-cnn",
}


def turned_away() -> str:
    """What audits left of defences that may turn images away, at each radius."""
    lines = []
    for name, folder in TURNED.items():
        audit = read_audit(RESULTS / folder)
        for budget in audit.budgets:
            turned = budget.turned_away
            assert turned is not None
            lines.append([
                name,
                f"{budget.eps:.2f}",
                brief(budget.clean),
                brief(turned.clean.turned_away),
                brief(budget.worst_case),
                brief(turned.attacked.turned_away),
                "none" if turned.attacked.right is None else brief(turned.attacked.right),
                f"{audit.n}, {audit.effort}",
            ])  # fmt: skip
    header = ["defence", "Linf", "clean: right or rejected", "clean: rejected", "attacked: right or rejected"]
    return table([*header, "attacked: rejected", "right, of the accepted", "n, effort"], lines)
