from types import SimpleNamespace

import pytest

from carso.audit.results import Audit, Check
from carso.evaluation.results import Rate, Results
from carso.hardening.conclusion import conclusion

ENVIRONMENT = {"python": "3", "torch": "2", "platform": "p", "cpu": "c", "threads": 1, "carso": "0"}


def rate(correct: int, total: int = 100) -> dict[str, object]:
    return Rate.of(correct, total).model_dump()


def results(*pairs: tuple[str, int, int]) -> Results:
    rows = [
        {
            "attack": attack.removesuffix("*"),
            "norm": None if attack == "none" else "Linf",
            "eps": 0.0 if attack == "none" else 0.1,
            "foreseen": False,
            "directed_at": "defence" if attack.endswith("*") else "classifier",
            "adversarially_trained": rate(theirs),
            "carso": rate(ours),
        }
        for attack, theirs, ours in pairs
    ]
    return Results.model_validate({"recipe": "r", "seed": 0, "n": 100, "environment": ENVIRONMENT, "rows": rows})


def audit(left: int, raised: bool = False) -> Audit:
    budget = SimpleNamespace(norm="Linf", eps=0.1, worst_case=Rate.of(left, 100))
    check = Check(name="blind", raised=raised, value=1.0, meaning="no gradient", threshold=0.5)
    return Audit.model_construct(n=100, budgets=[budget], checks=[check])


def said(*pairs: tuple[str, int, int], audits: tuple[int, int] = (40, 45), raised: bool = False) -> str:
    both = {"classifier": audit(audits[0]), "defence": audit(audits[1], raised)}
    return "\n".join(conclusion(results(*pairs), both))


def test_both_are_shown_for_every_row_and_audit() -> None:
    lines = said(("none", 90, 88), ("pgd", 40, 70), ("pgd-eot*", 41, 39)).splitlines()
    assert lines[0] == "Thesis's protocol (attacks on the classifier alone), n = 100:"
    assert "classifier  40.0 [30.9, 49.8]   defence  70.0 [60.4, 78.1]   better" in lines[2]
    assert lines[3] == "Attacks on the whole of each:"
    assert lines[5] == "Audit of the whole of each (quick), n = 100:"
    assert "worst case of the audit, L∞ 0.10" in lines[6]


@pytest.mark.parametrize(("theirs", "ours", "words"), [(40, 70, "better"), (70, 40, "WORSE"), (50, 55, "too close")])
def test_a_difference_counts_where_the_intervals_lie_apart(theirs: int, ours: int, words: str) -> None:
    assert words in said(("pgd", theirs, ours)).splitlines()[1]


def test_where_it_did_not_help_is_said() -> None:
    told = said(("none", 90, 60), ("pgd", 40, 70), audits=(60, 20))
    assert "The defence helped against: PGD L∞ 0.10." in told
    assert "The defence did NOT help, and does harm, against: No attack; worst case of the audit, L∞ 0.10." in told


def test_an_audit_that_doubts_itself_is_told() -> None:
    assert "The audit of the defence doubts its own figures (blind): no gradient" in said(raised=True)
    assert "doubts" not in said()


def test_what_has_nothing_right_was_not_audited() -> None:
    told = "\n".join(conclusion(results(("none", 10, 0)), {"classifier": audit(4)}))
    assert "The defence was not audited: it has none of the clean images right." in told
    assert "Audit of" not in told
