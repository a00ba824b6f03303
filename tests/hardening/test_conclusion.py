"""The conclusion says what the images tell, and no more."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from carso.audit.results import Audit, Check
from carso.evaluation.environment import environment
from carso.evaluation.models import Outcome
from carso.evaluation.protocol import Row
from carso.evaluation.records import Records, RowRecord
from carso.evaluation.results import Rate
from carso.hardening.conclusion import conclusion
from carso.types import Budget


def right(correct: int, total: int, first: int = 0) -> Tensor:
    """Which images are right: as many as said, from the first."""
    place = torch.arange(total)
    return (place >= first) & (place < first + correct)


def answered(which: Tensor) -> Outcome:
    return Outcome(predicted=(~which).to(torch.int16))


def records(*pairs: tuple[str, int, int], total: int = 100) -> Records:
    """Of attacks, those on the whole with a star, and how many images the classifier and the defence have right."""
    rows = {}
    for attack, theirs, ours in pairs:
        name, aim = attack.removesuffix("*"), "defence" if attack.endswith("*") else "classifier"
        row = Row(name, None if name == "none" else Budget("Linf", 0.1), directed_at=aim)
        outcomes = {"adversarially_trained": answered(right(theirs, total)), "carso": answered(right(ours, total))}
        rows[row.key] = RowRecord(row=row, outcomes=outcomes, seconds=1.0)
    about = {"recipe": "r", "seed": 0, "fingerprint": "f", "dataset": "d", "classes": ["a", "b"], "settings": {}}
    return Records(environment=environment(), labels=torch.zeros(total, dtype=torch.int16), rows=rows, **about)


def audit(left: int, raised: bool = False) -> Audit:
    budget = SimpleNamespace(norm="Linf", eps=0.1, worst_case=Rate.of(left, 100))
    check = Check(name="blind", raised=raised, value=1.0, meaning="no gradient", threshold=0.5)
    return Audit.model_construct(n=100, budgets=[budget], checks=[check])


def said(
    *pairs: tuple[str, int, int], audits: tuple[int, int] = (40, 45), raised: bool = False, total: int = 100
) -> str:
    both = {"classifier": audit(audits[0]), "defence": audit(audits[1], raised)}
    left = {name: [right(found, 100)] for name, found in zip(both, audits, strict=True)}
    return "\n".join(conclusion(records(*pairs, total=total), both, left))


def test_both_are_shown_for_every_row_and_audit() -> None:
    lines = said(("none", 90, 88), ("pgd", 40, 70), ("pgd-eot*", 41, 39)).splitlines()
    assert lines[0] == "Thesis's protocol (attacks on the classifier alone), n = 100:"
    assert "classifier  40.0 [30.9, 49.8]   defence  70.0 [60.4, 78.1]   better (+20.4 to +38.5)" in lines[2]
    assert lines[3] == "Attacks on the whole of each:"
    assert lines[5] == "Audit of the whole of each (quick), n = 100:"
    assert "worst case of the audit, L∞ 0.10" in lines[6]


@pytest.mark.parametrize(
    ("theirs", "ours", "total", "words"),
    [
        (40, 70, 100, "better"),
        (33, 46, 56, "better"),
        (70, 40, 100, "WORSE"),
        (950, 932, 1000, "WORSE"),
        (50, 52, 100, "too close to tell"),
        (50, 50, 100, "too close to tell"),
    ],
)
def test_a_difference_counts_where_its_interval_leaves_out_0(theirs: int, ours: int, total: int, words: str) -> None:
    assert f"   {words} (" in said(("pgd", theirs, ours), total=total).splitlines()[1]


def test_the_same_rates_tell_more_where_mistakes_are_shared() -> None:
    both = {"classifier": audit(60), "defence": audit(70)}
    for first, verdict in ((0, "better"), (30, "too close to tell")):
        left = {"classifier": [right(60, 100)], "defence": [right(70, 100, first)]}
        lines = conclusion(records(("none", 90, 90)), both, left)
        (line,) = (line for line in lines if line.startswith("  worst case of the audit"))
        assert verdict in line


def test_where_it_did_not_help_is_said() -> None:
    told = said(("none", 90, 60), ("pgd", 40, 70), audits=(60, 20))
    assert "The defence helped against: PGD L∞ 0.10." in told
    assert "The defence did NOT help, and does harm, against: No attack; worst case of the audit, L∞ 0.10." in told


def test_an_audit_that_doubts_itself_is_told() -> None:
    assert "The audit of the defence doubts its own figures (blind): no gradient" in said(raised=True)
    assert "doubts" not in said()


def test_what_has_nothing_right_was_not_audited() -> None:
    told = "\n".join(conclusion(records(("none", 10, 0)), {"classifier": audit(4)}, {"classifier": [right(4, 100)]}))
    assert "The defence was not audited: it has none of the clean images right." in told
    assert "Audit of" not in told
