import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from carso.evaluation.interval import apart, difference, wilson

counts = st.integers(1, 20_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(counts, st.floats(0.5, 0.999))
def test_agrees_with_scipy(pair, confidence):
    correct, total = pair
    oracle = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    assert wilson(correct, total, confidence) == pytest.approx((100 * oracle.low, 100 * oracle.high), abs=1e-7)


def test_a_known_value():
    low, high = wilson(9672, 10_000)
    assert (round(low, 2), round(high, 2)) == (96.35, 97.05)


def test_no_success_ends_at_the_closed_form():
    z2 = 1.959963984540054**2
    assert wilson(0, 50) == pytest.approx((0, 100 * z2 / (50 + z2)))


@given(counts)
def test_holds_the_accuracy_and_mirrors_the_error_rate(pair):
    correct, total = pair
    low, high = wilson(correct, total)
    assert 0 <= low <= 100 * correct / total <= high <= 100
    mirrored = wilson(total - correct, total)
    assert mirrored == pytest.approx((100 - high, 100 - low), abs=1e-9)


def test_four_times_the_images_halve_the_interval():
    widths = [math.dist(*zip(wilson(n // 2, n), strict=True)) for n in (10_000, 40_000)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("arguments", [(1, 0), (-1, 5), (6, 5), (1, 2, 0.0), (1, 2, 1.0)])
def test_refuses_impossible_counts(arguments):
    with pytest.raises(ValueError, match=r"correct|confidence"):
        wilson(*arguments)


@pytest.mark.parametrize(
    ("own", "other", "side"), [((3.0, 4.0), (1.0, 2.0), 1), ((1.0, 2.0), (3.0, 4.0), -1), ((1.0, 3.0), (3.0, 4.0), 0)]
)
def test_intervals_that_touch_are_not_apart(own, other, side):
    assert apart(own, other) == side


def test_the_difference_is_newcombe_s() -> None:
    found = difference(80.0, wilson(56, 70), 60.0, wilson(48, 80))
    assert found == pytest.approx((5.24, 33.39), abs=0.005)


def test_the_difference_mirrors() -> None:
    low, high = difference(80.0, wilson(56, 70), 60.0, wilson(48, 80))
    assert difference(60.0, wilson(48, 80), 80.0, wilson(56, 70)) == pytest.approx((-high, -low))
