from collections import Counter

import pytest

from carso.ablations.study import Claim, Reference, Relation, Statement
from carso.ablations.verdict import Standing, standing, verdict, within
from carso.evaluation.results import Rate, ResultRow, Target


@pytest.mark.parametrize(
    ("relation", "own", "other", "expected"),
    [
        ("above", 650, 450, "holds"),
        ("above", 470, 450, "open"),
        ("above", 320, 450, "fails"),
        ("below", 320, 450, "holds"),
        ("below", 430, 450, "open"),
        ("below", 650, 450, "fails"),
        ("not-above", 950, 950, "holds"),
        ("not-above", 500, 500, "open"),
        ("not-above", 480, 500, "holds"),
        ("not-above", 650, 450, "fails"),
        ("not-below", 950, 950, "holds"),
        ("not-below", 500, 500, "open"),
        ("not-below", 650, 450, "holds"),
        ("not-below", 320, 450, "fails"),
    ],
)
def test_intervals_decide(relation: Relation, own: int, other: int, expected: Standing) -> None:
    assert standing(relation, Rate.of(own, 1000), Rate.of(other, 1000)) == expected


def test_that_intervals_meet_is_not_that_a_difference_is_small() -> None:
    assert standing("not-above", Rate.of(6, 10), Rate.of(5, 10)) == "open"
    assert standing("not-above", Rate.of(60_000, 100_000), Rate.of(59_900, 100_000)) == "holds"


@pytest.mark.parametrize(
    ("correct", "n", "expected"),
    [
        (200, 1000, "holds"),
        (240, 1000, "open"),
        (270, 1000, "open"),
        (310, 1000, "fails"),
        (110, 1000, "fails"),
        (1, 2, "open"),
        (0, 5, "open"),
        (5, 10, "open"),
        (20, 20, "fails"),
    ],
)
def test_an_interval_lies_inside_a_range_or_off_it_or_tells_nothing(correct: int, n: int, expected: Standing) -> None:
    assert within(Rate.of(correct, n), (15.0, 25.0)) == expected


def row(correct: int, eps: float = 0.1, aim: Target = "classifier", alone: int = 50) -> ResultRow:
    about = {"attack": "fgsm", "norm": "Linf", "eps": eps, "foreseen": eps < 0.3, "directed_at": aim}
    return ResultRow.model_validate(
        about | {"carso": Rate.of(correct, 100), "adversarially_trained": Rate.of(alone, 100)}
    )


def said(*, of: tuple[str, ...] = ("a",), relation: Relation = "above", **options: object) -> Statement:
    return Statement(says="x", place="y", claims=(Claim(of=of, relation=relation, **options),))


def test_one_comparison_the_other_way_refutes() -> None:
    figures = {"base": [row(50), row(50, 0.2)], "a": [row(90), row(5, 0.2)]}
    assert verdict(said(), figures) == ("refuted", Counter(holds=1, fails=1))


def test_half_of_the_comparisons_must_hold() -> None:
    figures = {"base": [row(50), row(50, 0.2), row(50, 0.4)], "a": [row(90), row(90, 0.2), row(52, 0.4)]}
    assert verdict(said(), figures) == ("confirmed", Counter(holds=2, open=1))
    figures["a"][1] = row(51, 0.2)
    assert verdict(said(), figures) == ("not testable", Counter(holds=1, open=2))


def test_one_row_may_be_enough() -> None:
    figures = {"base": [row(50), row(50, 0.2)], "a": [row(65), row(5, 0.2)]}
    assert verdict(said(relation="not-below"), figures)[0] == "refuted"
    assert verdict(said(relation="not-below", some=True), figures) == ("confirmed", Counter(holds=1))
    figures["a"][0] = row(5)
    assert verdict(said(relation="not-below", some=True), figures) == ("refuted", Counter(fails=1))


def test_the_other_side_may_be_a_classifier_alone() -> None:
    figures = {"base": [row(50)], "a": [row(90, alone=10)]}
    assert verdict(said(than=Reference(variant="a", column="adversarially_trained")), figures)[0] == "confirmed"
    assert verdict(said(column="adversarially_trained"), figures)[0] == "refuted"


def test_rows_are_those_that_the_claim_is_about() -> None:
    figures = {"base": [row(50), row(50, 0.4)], "a": [row(90), row(5, 0.4), row(5, 0.1, "defence")]}
    assert verdict(said(rows="foreseen"), figures) == ("confirmed", Counter(holds=1))
    assert verdict(said(rows="unforeseen"), figures) == ("refuted", Counter(fails=1))


def test_missing_figures_and_no_claims_are_not_testable() -> None:
    assert verdict(said(of=("a", "b")), {"base": [row(50)], "a": [row(90)]})[0] == "not testable"
    assert verdict(Statement(says="x", place="y", reason="z"), {})[0] == "not testable"


def test_a_variant_of_which_rows_are_missing_is_not_testable() -> None:
    figures = {"base": [row(50), row(50, 0.2)], "a": [row(90)]}
    assert verdict(said(), figures)[0] == "not testable"
    assert verdict(said(), figures | {"a": [row(90), row(90, 0.2)]})[0] == "confirmed"
