"""The conclusion: what a hardened defence gained over its classifier, and where it did not help.

Both answer the same images, and each image's outcome is known: a difference counts where its 95 % interval for pairs
(`carso.evaluation.interval`) leaves out 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from carso.audit.results import Audit
from carso.audit.verdict import rate
from carso.evaluation.interval import paired, sign
from carso.evaluation.records import Records
from carso.evaluation.results import TARGETS, ResultRow, Target
from carso.report import wording

SUBJECTS = ("classifier", "defence")
"""What is audited."""

COLUMNS = ("adversarially_trained", "carso")
"""Their columns in an evaluation."""

VERDICTS = {1: "better", -1: "WORSE", 0: "too close to tell"}
SAID = {
    1: "The defence helped against",
    -1: "The defence did NOT help, and does harm, against",
    0: "Whether it helped cannot be told from these images against",
}
"""Of a row, and of all that are alike, by the side of 0 on which the interval of the gain lies."""


@dataclass(frozen=True)
class Pair:
    """Under what, and which images (n,) the classifier and the defence are right on."""

    name: str
    theirs: Tensor
    ours: Tensor

    @property
    def difference(self) -> tuple[float, float]:
        """The interval of what the defence gained, in points."""
        return paired(self.ours, self.theirs)

    @property
    def side(self) -> int:
        """Of 0, on which that interval lies: 1 above, -1 below, 0 where it holds 0."""
        return sign(self.difference)


def conclusion(records: Records, audits: Mapping[str, Audit], left: Mapping[str, Sequence[Tensor]]) -> list[str]:
    """What the run found, in lines.

    Args:
        records: of the evaluation.
        audits: of "classifier" and "defence", without those that had no clean image right.
        left: which images (n,) each of these left right, budget by budget.
    """
    thesis, whole = (list(_rows(records, aim)) for aim in TARGETS)
    audited = list(_audited(audits, left))
    n = len(records.labels)
    lines = [*_part(f"Thesis's protocol (attacks on the classifier alone), n = {n}", thesis)]
    lines += _part("Attacks on the whole of each", whole)
    if audited:
        lines += _part(f"Audit of the whole of each (quick), n = {audits['defence'].n}", audited)
    lines.append("In parentheses: the 95 % interval of the gain in points, image by image.")
    return [*lines, *_helped([*thesis, *whole, *audited]), *_unaudited(audits), *_raised(audits)]


def _rows(records: Records, aim: Target) -> Iterator[Pair]:
    for record in records.rows.values():
        if record.row.directed_at == aim and set(COLUMNS) <= record.outcomes.keys():
            theirs, ours = (records.right(record.outcomes[column]) for column in COLUMNS)
            yield Pair(_name(records.result_row(record)), theirs, ours)


def _name(row: ResultRow) -> str:
    return wording.bare_attack(row) + (" on the whole" if row.directed_at == "defence" else "")


def _audited(audits: Mapping[str, Audit], left: Mapping[str, Sequence[Tensor]]) -> Iterator[Pair]:
    if len(audits) < len(SUBJECTS):
        return
    for budget, theirs, ours in zip(audits["defence"].budgets, *(left[name] for name in SUBJECTS), strict=True):
        yield Pair(f"worst case of the audit, {wording.budget(budget.norm, budget.eps)}", theirs, ours)


def _part(title: str, pairs: list[Pair]) -> Iterator[str]:
    yield f"{title}:"
    for pair in pairs:
        low, high = pair.difference
        rates = f"classifier {_rate(pair.theirs)}   defence {_rate(pair.ours)}"
        yield f"  {pair.name:<38} {rates}   {VERDICTS[pair.side]} ({low:+.1f} to {high:+.1f})"


def _rate(right: Tensor) -> str:
    found = rate(right)
    return f"{found.accuracy:5.1f} [{found.ci95[0]:.1f}, {found.ci95[1]:.1f}]"


def _helped(pairs: list[Pair]) -> Iterator[str]:
    """Where the defence helped, and where it did not, in three sentences at most."""
    for side, said in SAID.items():
        names = [pair.name for pair in pairs if pair.side == side]
        if names:
            yield f"{said}: {'; '.join(names)}."


def _unaudited(audits: Mapping[str, Audit]) -> Iterator[str]:
    for name in SUBJECTS:
        if name not in audits:
            yield f"The {name} was not audited: it has none of the clean images right."


def _raised(audits: Mapping[str, Audit]) -> Iterator[str]:
    for name, audit in audits.items():
        for check in audit.raised:
            yield f"The audit of the {name} doubts its own figures ({check.name}): {check.meaning}"
