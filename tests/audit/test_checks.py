"""A check is raised beyond its threshold and not at it, and never by one image that fell."""

from __future__ import annotations

import pytest

from carso.audit.checks import DOUBTS, Evidence
from carso.audit.diagnostics import Diagnostics
from carso.audit.results import AttackResult, BudgetResult
from carso.evaluation.results import Rate

MEASURED = Diagnostics(
    images=10, zero_gradients=0, saturated=0, spread=0, finite_differences=0, disagreement=0, unbounded=0
)
LONG = {"name": "pgd-annealed-long", "kind": "white-box", "on": "survivors", "options": {}, "seconds": 0.0}


def found(n: int, fell: int, attacked: int | None = None) -> BudgetResult:
    """What an audit of n images finds where the long run breaks so many of those that it attacked."""
    left = Rate.of(n - fell, n)
    long = LONG | {"result": left, "attacked": attacked or n, "gains": [100 * fell / n]}
    return BudgetResult(
        norm="Linf",
        eps=0.1,
        clean=Rate.of(n, n),
        worst_case=left,
        attacks=[AttackResult.model_validate(long)],
        mean=left.accuracy,
        worst_of_k=left,
        white_box=None,
        strongest=None,
        diagnostics=MEASURED,
    )


def raised(name: str, budget: BudgetResult) -> bool:
    (doubt,) = [doubt for doubt in DOUBTS if doubt.name == name]
    return doubt.check(Evidence([budget], random=False, averaged=True)).raised


@pytest.mark.parametrize("n", [50, 500, 1500, 2000, 2500])
def test_at_its_threshold_a_check_is_not_raised_and_an_image_beyond_it_is(n: int) -> None:
    assert not raised("not-converged-in-steps", found(n, n // 50))
    assert raised("not-converged-in-steps", found(n, n // 50 + 1))


def test_of_few_images_one_that_falls_raises_nothing_and_two_do() -> None:
    for n in range(3, 50):
        assert not raised("not-converged-in-steps", found(n, 1)), n
        assert raised("not-converged-in-steps", found(n, 2)), n


def test_one_image_by_an_attack_without_gradients_raises_nothing() -> None:
    for n in range(10, 2000):
        budget = found(n, 1, attacked=2)
        budget.attacks[0] = budget.attacks[0].model_copy(update={"kind": "black-box"})
        assert not raised("blind-beats-white-box", budget), n


@pytest.mark.parametrize("tuned", [12, 15, 18, 60, 100])
def test_one_image_that_was_tuned_on_raises_nothing(tuned: int) -> None:
    budget, one = found(500, 0), 100 / tuned
    by_eps = {"0.05": 50.0, "0.1": 50.0 + one}
    budget.diagnostics = MEASURED.model_copy(update={"images": tuned, "unbounded": one, "by_eps": by_eps})
    assert not raised("survives-unbounded-attack", budget)
    assert not raised("accuracy-rises-with-eps", budget)
    budget.diagnostics = MEASURED.model_copy(update={"images": 12, "unbounded": 200 / 12})
    assert raised("survives-unbounded-attack", budget)


def test_gradients_that_no_image_has_are_no_chance_however_few_the_images_are() -> None:
    budget = found(10, 0)
    budget.diagnostics = MEASURED.model_copy(update={"zero_gradients": 10.0})
    assert raised("zero-gradients", budget)
