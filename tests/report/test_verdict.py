from __future__ import annotations

from typing import Any

import pytest
import torch

from carso.audit import Audit
from carso.evaluation import Records, Row
from carso.evaluation.environment import environment
from carso.evaluation.models import Outcome
from carso.evaluation.records import RowRecord
from carso.evaluation.results import OWN, Rate, ResultRow, Results
from carso.report.verdict import hardest, subject, verdict
from carso.types import Budget


def row(
    attack: str, eps: float, ours: int, theirs: int, aim: str = "classifier", foreseen: bool = True, n: int = 1000
) -> ResultRow:
    rates = {"carso": Rate.of(ours, n), "adversarially_trained": Rate.of(theirs, n)}
    norm = None if attack == "none" else "Linf"
    return ResultRow(attack=attack, norm=norm, eps=eps, foreseen=foreseen, directed_at=aim, **rates)


def results(*rows: ResultRow, **fields: Any) -> Results:
    return Results(recipe="r", seed=0, n=1000, environment=environment(), rows=list(rows), **fields)


CLEAN = row("none", 0, 958, 958)
PGD = row("pgd", 0.3, 833, 681)
FGSM = row("fgsm", 0.3, 846, 850)
WORSE_BUT_UNFORESEEN = row("pgd", 0.5, 245, 350, foreseen=False)
WEIGHTS = {"adversarially_trained": "b2", "carso": "a1"}
WHOLE = row("pgd", 0.3, 360, 602, aim="defence")


def test_the_headline_is_the_hardest_foreseen_attack_and_both_aims() -> None:
    found = verdict(results(CLEAN, PGD, FGSM, WORSE_BUT_UNFORESEEN, WHOLE))
    assert found.headline == (
        "Under PGD L∞ 0.30, crafted on the classifier alone, CARSO is right on 83.3 % of 1,000 images and adversarial "
        "training on 68.1 %; attacked as a whole, it keeps 36.0 %."
    )
    assert found.notes == (
        "Without attack, CARSO is right on 95.8 %, adversarial training on 95.8 %.",
        "Of 3 attacks on the classifier, CARSO is ahead of adversarial training in 1 and behind in 1; in 1 the 95 % "
        "interval of the difference includes 0.",
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "told"), [(932, 950, "0 and behind in 0; in 1"), (46, 33, "1 and behind in 0; in 0")]
)
def test_intervals_that_meet_may_be_of_rates_that_differ(ours: Any, theirs: Any, told: Any) -> None:
    found = verdict(results(row("pgd", 0.3, ours, theirs, n=1000 if ours > 56 else 56)))
    assert f"is ahead of adversarial training in {told}" in found.notes[-1]


def test_answers_to_the_same_images_tell_more_where_they_are_kept() -> None:
    place = torch.arange(1000)
    outcomes = {
        name: Outcome(predicted=(place >= right).to(torch.int16))
        for name, right in (("carso", 932), ("adversarially_trained", 950))
    }
    attack = Row("pgd", Budget("Linf", 0.3), True)
    records = Records(
        recipe="r",
        seed=0,
        fingerprint="f",
        dataset="d",
        classes=["a", "b"],
        environment=environment(),
        settings={},
        labels=torch.zeros(1000, dtype=torch.int16),
        rows={attack.key: RowRecord(row=attack, outcomes=outcomes, seconds=1.0)},
    )
    alone, kept = (verdict(records.results(), records=given).notes[-1] for given in (None, records))
    assert "behind in 0; in 1 the 95 % interval of the difference includes 0" in alone
    assert "behind in 1; in 0 the 95 % interval of the difference includes 0" in kept
    others = results(row("pgd", 0.1, 932, 950))
    assert verdict(others, records=records) == verdict(others)


def corrupted(attack: str, level: int, ours: int, theirs: int, aim: str = "classifier") -> ResultRow:
    return row(attack, level, ours, theirs, aim, foreseen=False).model_copy(update={"norm": "severity"})


def test_corruptions_are_nobodys_attack() -> None:
    rows = CLEAN, corrupted("fog", 3, 900, 800), corrupted("shot-noise", 5, 400, 700), corrupted("fog", 5, 500, 600)
    found = verdict(
        results(*rows, corrupted("spatial", 1, 300, 200, "defence"), corrupted("spatial", 5, 0, 0, "defence"))
    )
    assert found.headline == (
        "Over 2 corruptions at 2 severities, CARSO is right on 60.0 % of 1,000 images in the mean and adversarial "
        "training on 70.0 %; on fewest, 40.0 %, under Shot noise severity 5."
    )
    assert found.notes[1:] == (
        "Of 3 rows of corruptions, CARSO is ahead of adversarial training in 1 and behind in 2; in 0 the 95 % interval "
        "of the difference includes 0.",
        "With every image in its worst pose CARSO keeps 30.0 % at severity 1, 0.0 % at severity 5.",
    )


def test_a_classifier_alone_is_compared_with_nobody() -> None:
    rate = {"classifier": Rate.of(30, 40)}
    fields = {"attack": "fog", "norm": "severity", "eps": 1, "foreseen": False, "directed_at": "classifier"}
    found = verdict(results(ResultRow(**fields, others=rate)))
    assert found.headline == (
        "Over 1 corruption at 1 severity, the classifier is right on 75.0 % of 40 images in the mean; on fewest, "
        "75.0 %, under Fog severity 1."
    )
    assert not found.notes


def test_silence_on_the_whole_defence_is_said() -> None:
    assert verdict(results(CLEAN, PGD)).headline.endswith("; no attack of this run was aimed at the whole defence.")


def test_an_audit_that_found_worse_has_the_last_word(audit: Audit) -> None:
    audit = audit.model_copy(update={"weights": "a1"})
    found = verdict(results(CLEAN, PGD, WHOLE, weights=WEIGHTS), audit)
    assert found.headline.endswith("; attacked as a whole, it keeps 0.0 % of 4 images.")
    assert found.notes[-1] == "Of 2 checks of the audit, 1 doubts its figures: zero gradients."
    said = verdict(results(CLEAN, row("pgd", 0.1, 900, 850), weights=WEIGHTS), audit).headline
    assert said.endswith("; attacked as a whole at L∞ 0.30, it keeps 0.0 % of 4 images.")


@pytest.mark.parametrize(
    ("weights", "run", "images", "doubt"),
    [
        ("c3", WEIGHTS, "", "is not of this run: its weights are those of no column."),
        (None, WEIGHTS, "", "is unknown: audit.json does not say."),
        ("a1", {}, "", "is unknown: results.json does not say."),
        ("a1", WEIGHTS, "others", "is on other images: others, not noise."),
        ("b2", WEIGHTS, "noise", None),
    ],
)
def test_an_audit_counts_only_if_it_is_known_to_be_of_the_run(
    audit: Audit, weights: Any, run: Any, images: Any, doubt: Any
) -> None:
    audit = audit.model_copy(update={"weights": weights, "dataset": images})
    found = verdict(results(CLEAN, PGD, WHOLE, weights=run, dataset="noise"), audit)
    assert found.headline.endswith("; attacked as a whole, it keeps 36.0 %.")
    notes = [note for note in found.notes if "audit" in note]
    assert len(notes) == (doubt is not None)
    assert all(note.endswith(f"{doubt} The sentence above does not count it.") for note in notes)


def test_an_audit_in_which_turned_away_is_right_does_not_count(turning: Audit) -> None:
    found = verdict(results(CLEAN, PGD, WHOLE, weights=WEIGHTS), turning.model_copy(update={"weights": "a1"}))
    assert found.headline.endswith("; attacked as a whole, it keeps 36.0 %.")
    assert "is of it, turning away 1 %: what is turned away counts as right in it." in found.notes[-1]


def test_other_numbers_of_images_are_said() -> None:
    few = row("pgd", 0.3, 36, 60, aim="defence", n=100)
    said = verdict(results(CLEAN, PGD, few)).headline
    assert "83.3 % of 1,000 images" in said
    assert said.endswith("; attacked as a whole, it keeps 36.0 % of 100 images.")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((CLEAN, PGD, FGSM), PGD),
        ((CLEAN, WORSE_BUT_UNFORESEEN), WORSE_BUT_UNFORESEEN),
        ((CLEAN,), CLEAN),
        ((CLEAN, WHOLE), CLEAN),
    ],
)
def test_the_hardest_row(rows: Any, expected: Any) -> None:
    assert hardest(list(rows), "carso") is expected


def test_a_run_without_carso_is_about_its_last_column() -> None:
    bare = ResultRow(
        attack="none", norm=None, eps=0, foreseen=True, directed_at="classifier", undefended=Rate.of(9, 10)
    )
    assert subject(results(bare)) == "undefended"
    assert verdict(results(bare)).headline.startswith("Without attack, the undefended network is right on 90.0 %")


def test_images_that_nobody_labelled_are_not_said_to_be_answered_rightly() -> None:
    found = verdict(results(CLEAN, PGD, dataset="pictures" + OWN))
    assert found.notes[0].startswith("Nobody labelled these images")
    assert not any(note.startswith("Without attack") for note in found.notes)


def test_attacks_on_what_hides_its_classifier_are_attacks_on_the_whole() -> None:
    found = verdict(results(CLEAN, PGD, hidden=["carso"])).headline
    assert found.startswith("Under PGD L∞ 0.30, crafted on the whole of it, CARSO is right on 83.3 %")
    assert found.endswith("and adversarial training on 68.1 %.")
    unforeseen = row("apgd", 0.3, 245, 350, foreseen=False)
    assert verdict(results(PGD, unforeseen, hidden=["carso"])).headline.endswith(
        "; attacked as a whole, it keeps 24.5 %."
    )
    assert verdict(results(CLEAN, hidden=["carso"])).headline.endswith("was aimed at the whole defence.")
