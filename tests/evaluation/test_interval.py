import math
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binomtest
from torch import Tensor

from carso.evaluation.interval import apart, difference, paired, sign, wilson

counts = st.integers(1, 20_000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total)))


@given(counts, st.floats(0.5, 0.999))
def test_agrees_with_scipy(pair: tuple[int, int], confidence: float) -> None:
    correct, total = pair
    oracle = binomtest(correct, total).proportion_ci(confidence, method="wilson")
    assert wilson(correct, total, confidence) == pytest.approx((100 * oracle.low, 100 * oracle.high), abs=1e-7)


def test_a_known_value() -> None:
    low, high = wilson(9672, 10_000)
    assert (round(low, 2), round(high, 2)) == (96.35, 97.05)


def test_no_success_ends_at_the_closed_form() -> None:
    z2 = 1.959963984540054**2
    assert wilson(0, 50) == pytest.approx((0, 100 * z2 / (50 + z2)))


@given(counts)
def test_holds_the_accuracy_and_mirrors_the_error_rate(pair: tuple[int, int]) -> None:
    correct, total = pair
    low, high = wilson(correct, total)
    assert 0 <= low <= 100 * correct / total <= high <= 100
    mirrored = wilson(total - correct, total)
    assert mirrored == pytest.approx((100 - high, 100 - low), abs=1e-9)


def test_four_times_the_images_halve_the_interval() -> None:
    widths = [math.dist(*zip(wilson(n // 2, n), strict=True)) for n in (10_000, 40_000)]
    assert widths[0] / widths[1] == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("arguments", [(1, 0), (-1, 5), (6, 5), (1, 2, 0.0), (1, 2, 1.0)])
def test_refuses_impossible_counts(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"correct|confidence"):
        wilson(*arguments)


@pytest.mark.parametrize(
    ("own", "other", "side"), [((3.0, 4.0), (1.0, 2.0), 1), ((1.0, 2.0), (3.0, 4.0), -1), ((1.0, 3.0), (3.0, 4.0), 0)]
)
def test_intervals_that_touch_are_not_apart(own: tuple[float, float], other: tuple[float, float], side: int) -> None:
    assert apart(own, other) == side


def test_the_difference_is_newcombe_s() -> None:
    found = difference(80.0, wilson(56, 70), 60.0, wilson(48, 80))
    assert found == pytest.approx((5.24, 33.39), abs=0.005)


def test_the_difference_mirrors() -> None:
    low, high = difference(80.0, wilson(56, 70), 60.0, wilson(48, 80))
    assert difference(60.0, wilson(48, 80), 80.0, wilson(56, 70)) == pytest.approx((-high, -low))


def outcomes(both: int, own: int, other: int, neither: int) -> tuple[Tensor, Tensor]:
    """Which images are right with each of two, from how many are with both, with one alone, and with none."""
    cells = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
    return cells.repeat_interleave(torch.tensor([both, own, other, neither]), 0).unbind(1)


@pytest.mark.parametrize(
    ("counts", "ends"),
    [
        ((36, 12, 2, 0), (5.69, 34.04)),
        ((59, 6, 16, 80), (-11.86, -0.46)),
        ((14, 5, 0, 22), (1.15, 22.65)),
    ],
    ids=["R. G. Newcombe, 1998", "Cavo et al., 2012, by Fagerland et al.", "Altman et al., 2000, table 6.2"],
)
def test_the_difference_on_the_same_images_is_newcombe_s(
    counts: tuple[int, int, int, int], ends: tuple[float, float]
) -> None:
    assert paired(*outcomes(*counts)) == pytest.approx(ends, abs=0.005)
    assert paired(*reversed(outcomes(*counts))) == pytest.approx((-ends[1], -ends[0]), abs=0.005)


def test_outcomes_that_have_nothing_in_common_are_as_of_other_images() -> None:
    found = paired(*outcomes(24, 24, 16, 16))
    assert found == pytest.approx(difference(60.0, wilson(48, 80), 50.0, wilson(40, 80)))


@pytest.mark.parametrize("counts", [(50, 0, 0, 0), (0, 0, 0, 50), (40, 0, 0, 10), (40, 5, 5, 0), (0, 1, 0, 0)])
def test_few_pairs_that_differ_or_none_show_nothing(counts: tuple[int, int, int, int]) -> None:
    low, high = paired(*outcomes(*counts))
    assert -100 <= low < 0 < high <= 100


@pytest.mark.parametrize(
    ("counts", "side"), [((930, 2, 20, 48), -1), ((30, 3, 16, 7), -1), ((30, 16, 3, 7), 1), ((33, 3, 2, 12), 0)]
)
def test_pairs_tell_what_intervals_of_each_do_not(counts: tuple[int, int, int, int], side: int) -> None:
    own, other = outcomes(*counts)
    assert apart(wilson(int(own.sum()), len(own)), wilson(int(other.sum()), len(own))) == 0
    assert sign(paired(own, other)) == side


@given(st.lists(st.integers(1, 60), min_size=4, max_size=4))
def test_what_the_exact_test_of_mcnemar_is_sure_of_the_interval_tells(counts: list[int]) -> None:
    _, own, other, _ = counts
    assume(binomtest(own, own + other).pvalue < 0.01)
    assert sign(paired(*outcomes(*counts))) == (1 if own > other else -1)
