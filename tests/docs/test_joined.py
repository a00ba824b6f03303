"""Audits of one subject run apart stand together, those of others do not; what lacks an attack or checks says so."""

from __future__ import annotations

import pytest
from benchmarks.docs.early import fewer, lacking, note, raised
from benchmarks.docs.joined import joined

APART = ("ladder/robust-cnn", "ladder/robust-cnn-0.15")


def test_radii_of_both_stand_in_order_and_a_check_that_both_raise_once() -> None:
    whole, parts = joined(APART), [joined(folder) for folder in APART]
    assert [budget.eps for budget in whole.budgets] == [0.15, 0.3]
    assert whole.budgets == [parts[1].budgets[0], parts[0].budgets[0]]
    assert [check.name for check in whole.raised] == ["wrong-gradients"]


@pytest.mark.parametrize("other", ["ladder/robust-cnn-0.4", "ladder/public-cnn", "ladder/robust-mlp-contrast"])
def test_others_are_refused(other: str) -> None:
    with pytest.raises(ValueError, match="different"):
        joined(("ladder/robust-cnn", other))


def test_only_what_misleads_lacks_the_attack_around_the_image() -> None:
    assert lacking(joined("ladder/robust-cnn")) == "pgd-annealed-around"
    assert lacking(joined("ladder/robust-cnn-0.4")) is None
    assert lacking(joined("strong-audit/control")) is None
    assert note([joined("ladder/robust-cnn-0.4")]) == ""
    marked, checks = note(joined(folder) for folder in APART).splitlines()
    assert marked == "† before `pgd-annealed-around` was one of the attacks."
    assert checks == f"Checks {fewer([joined('ladder/robust-cnn')])}."


def test_no_check_raised_says_of_how_many_where_they_are_not_all_of_today() -> None:
    assert raised(joined("cifar10-audit/carso")) == "none"
    assert raised(joined("strong-audit/control")) == "none of 13"
    assert raised(joined("ladder/robust-cnn-0.15")) == "wrong-gradients"
    assert raised(joined(APART)) == "wrong-gradients of 15"
    assert raised(joined(APART[::-1])) == "wrong-gradients of 15"
    early = [joined("strong-audit/control"), joined("fashion-audit/carso"), joined("cifar10-audit/carso")]
    assert fewer(early) == (
        "of 15, without `depends-on-history`; of 13, without `non-finite-gradients`, `randomness-unseeded` and "
        "`depends-on-history`; these came later, and today there are 16"
    )
