"""The conclusion: what a hardened defence gained over its classifier, and where it did not help.

Of two rates on the same images a difference counts only where their 95 % intervals lie apart.
"""

from __future__ import annotations

from collections.abc import Iterator

from carso.audit.results import Audit
from carso.evaluation.interval import apart
from carso.evaluation.results import Rate, ResultRow, Results
from carso.report import wording

SUBJECTS = ("classifier", "defence")
"""What is audited."""


def conclusion(results: Results, audits: dict[str, Audit]) -> list[str]:
    """What the run found, in lines.

    Args:
        results: of the evaluation.
        audits: of "classifier" and "defence", without those that had no clean image right.
    """
    thesis, whole = (list(_rows(results, aim)) for aim in ("classifier", "defence"))
    audited = list(_audited(audits))
    lines = [*_part(f"Thesis's protocol (attacks on the classifier alone), n = {results.n}", thesis)]
    lines += _part("Attacks on the whole of each", whole)
    if audited:
        lines += _part(f"Audit of the whole of each (quick), n = {audits['defence'].n}", audited)
    return [*lines, *_helped([*thesis, *whole, *audited]), *_unaudited(audits), *_raised(audits)]


Pair = tuple[str, Rate, Rate]
"""Under what, and what the classifier and the defence are right on."""


def _rows(results: Results, aim: str) -> Iterator[Pair]:
    for row in results.rows:
        if row.directed_at == aim and row.adversarially_trained is not None and row.carso is not None:
            yield _name(row), row.adversarially_trained, row.carso


def _name(row: ResultRow) -> str:
    return wording.bare_attack(row) + (" on the whole" if row.directed_at == "defence" else "")


def _audited(audits: dict[str, Audit]) -> Iterator[Pair]:
    if len(audits) < len(SUBJECTS):
        return
    for theirs, ours in zip(*(audits[name].budgets for name in SUBJECTS), strict=True):
        yield f"worst case of the audit, {wording.budget(ours.norm, ours.eps)}", theirs.worst_case, ours.worst_case


def _part(title: str, pairs: list[Pair]) -> Iterator[str]:
    yield f"{title}:"
    for name, theirs, ours in pairs:
        yield f"  {name:<38} classifier {_rate(theirs)}   defence {_rate(ours)}   {_compared(theirs, ours)}"


def _rate(rate: Rate) -> str:
    return f"{rate.accuracy:5.1f} [{rate.ci95[0]:.1f}, {rate.ci95[1]:.1f}]"


def _compared(theirs: Rate, ours: Rate) -> str:
    return {1: "better", -1: "WORSE", 0: "too close to tell"}[apart(ours.ci95, theirs.ci95)]


def _helped(pairs: list[Pair]) -> Iterator[str]:
    """Where the defence helped, and where it did not, in two sentences at most."""
    for verdict, said in {
        "better": "The defence helped against",
        "WORSE": "The defence did NOT help, and does harm, against",
        "too close to tell": "Whether it helped cannot be told from these images against",
    }.items():
        names = [name for name, *rates in pairs if _compared(*rates) == verdict]
        if names:
            yield f"{said}: {'; '.join(names)}."


def _unaudited(audits: dict[str, Audit]) -> Iterator[str]:
    for name in SUBJECTS:
        if name not in audits:
            yield f"The {name} was not audited: it has none of the clean images right."


def _raised(audits: dict[str, Audit]) -> Iterator[str]:
    for name, audit in audits.items():
        for check in audit.raised:
            yield f"The audit of the {name} doubts its own figures ({check.name}): {check.meaning}"
