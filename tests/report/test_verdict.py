import pytest

from carso.evaluation.environment import environment
from carso.evaluation.results import Rate, ResultRow, Results
from carso.report.beside import Audit
from carso.report.verdict import hardest, subject, verdict


def row(attack, eps, ours, theirs, aim="classifier", foreseen=True):
    rates = {"carso": Rate.of(ours, 1000), "adversarially_trained": Rate.of(theirs, 1000)}
    norm = None if attack == "none" else "Linf"
    return ResultRow(attack=attack, norm=norm, eps=eps, foreseen=foreseen, directed_at=aim, **rates)


def results(*rows):
    return Results(recipe="r", seed=0, n=1000, environment=environment(), rows=list(rows))


CLEAN = row("none", 0, 958, 958)
PGD = row("pgd", 0.3, 833, 681)
FGSM = row("fgsm", 0.3, 846, 850)
WORSE_BUT_UNFORESEEN = row("pgd", 0.5, 245, 350, foreseen=False)
WHOLE = row("pgd", 0.3, 360, 602, aim="defence")


def test_the_headline_is_the_hardest_foreseen_attack_and_both_aims():
    found = verdict(results(CLEAN, PGD, FGSM, WORSE_BUT_UNFORESEEN, WHOLE))
    assert found.headline == (
        "Under PGD L∞ 0.30, crafted on the classifier alone, CARSO is right on 83.3 % of the images and adversarial "
        "training on 68.1 %; attacked as a whole, it keeps 36.0 %."
    )
    assert found.notes == (
        "Without attack, CARSO is right on 95.8 %, adversarial training on 95.8 %.",
        "Of 3 attacks on the classifier, CARSO is ahead of adversarial training in 1 and behind in 1; in 1 the 95 % "
        "intervals overlap.",
    )


def test_silence_on_the_whole_defence_is_said():
    assert verdict(results(CLEAN, PGD)).headline.endswith("; no attack of this run was aimed at the whole defence.")


def test_an_audit_that_found_worse_has_the_last_word(audit_fields):
    audit = Audit.model_validate(audit_fields)
    assert verdict(results(CLEAN, PGD, WHOLE), audit).headline.endswith("; attacked as a whole, it keeps 25.0 %.")
    other = row("pgd", 0.1, 900, 850)
    assert verdict(results(CLEAN, other), audit).headline.endswith("; attacked as a whole at L∞ 0.30, it keeps 25.0 %.")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((CLEAN, PGD, FGSM), PGD),
        ((CLEAN, WORSE_BUT_UNFORESEEN), WORSE_BUT_UNFORESEEN),
        ((CLEAN,), CLEAN),
        ((CLEAN, WHOLE), CLEAN),
    ],
)
def test_the_hardest_row(rows, expected):
    assert hardest(list(rows), "carso") is expected


def test_a_run_without_carso_is_about_its_last_column():
    bare = ResultRow(
        attack="none", norm=None, eps=0, foreseen=True, directed_at="classifier", undefended=Rate.of(9, 10)
    )
    assert subject(results(bare)) == "undefended"
    assert verdict(results(bare)).headline.startswith("Without attack, Undefended is right on 90.0 %")
