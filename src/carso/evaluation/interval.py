"""Wilson's score interval for a proportion, and Newcombe's for the difference of two.

    centre = (p + z^2 / 2n) / (1 + z^2 / n)
    half   = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2)

with p = correct / n and z the normal quantile of the confidence. Unlike the normal approximation it stays inside
[0, 100] % and keeps its coverage near 0 and 100 %, where robust accuracies often lie.

    p - p' - sqrt(a^2 - 2 f a b + b^2)  to  p - p' + sqrt(c^2 - 2 f c d + d^2)      the difference's
    a = p - l,  b = h' - p',  c = h - p,  d = p' - l'

[l, h] and [l', h'] are Wilson's of both, and f is their correlation: 0 of independent images. Of the same n images
under two defences, of which s are right with the one, s' with the other and r with both, it is

    f = (n r - s s') / sqrt(s (n - s) s' (n - s'))

where a positive numerator is made smaller by n / 2, down to 0 at most, and f is 0 where the denominator is.

Sources: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927); R. G.
Newcombe, Interval estimation for the difference between independent proportions, Statistics in Medicine 17:873, and
Improved confidence intervals for the difference between binomial proportions based on paired data, 17:2635 (1998),
method 10 of each.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from jaxtyping import Bool
from torch import Tensor


def wilson(correct: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """The interval of the accuracy `correct / total`.

    Args:
        correct: successes, from 0 to `total`.
        total: trials, at least 1.
        confidence: coverage in (0, 1).

    Returns:
        Lower and upper end, in percent, within [0, 100].

    Raises:
        ValueError: if the counts or the confidence are out of range.
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"need 0 <= correct <= total and total >= 1, not {correct} of {total}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, not {confidence!r}")
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    p = correct / total
    shrink = 1 + z**2 / total
    centre = (p + z**2 / (2 * total)) / shrink
    half = z / shrink * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2))
    low = 0.0 if correct == 0 else centre - half
    high = 1.0 if correct == total else centre + half
    return 100 * low, 100 * high


def apart(own: tuple[float, float], other: tuple[float, float]) -> int:
    """1 if an interval lies above another, -1 if it lies below, 0 where they meet."""
    return int(own[0] > other[1]) - int(own[1] < other[0])


def difference(
    own: float,
    own_ends: tuple[float, float],
    other: float,
    other_ends: tuple[float, float],
    correlation: float = 0.0,
) -> tuple[float, float]:
    """The interval of `own - other`, two accuracies in percent with the ends of their intervals, in points."""
    low = _joined(own - own_ends[0], other_ends[1] - other, correlation)
    high = _joined(own_ends[1] - own, other - other_ends[0], correlation)
    return own - other - low, own - other + high


def paired(own: Bool[Tensor, " n"], other: Bool[Tensor, " n"]) -> tuple[float, float]:
    """The 95 % interval of the difference of two accuracies on the same images.

    Args:
        own: which of the images (n,) are right with the one, at least one image.
        other: with the other.

    Returns:
        Lower and upper end of `own - other`, in points, within [-100, 100].

    Raises:
        ValueError: if there is no image.
    """
    n, first, second, both = len(own), int(own.sum()), int(other.sum()), int((own & other).sum())
    ends = wilson(first, n), wilson(second, n)
    return difference(100 * first / n, ends[0], 100 * second / n, ends[1], _correlation(n, first, second, both))


def sign(ends: tuple[float, float]) -> int:
    """1 if an interval lies above 0, -1 if it lies below, 0 where it holds 0."""
    return apart(ends, (0.0, 0.0))


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(one**2 - 2 * correlation * one * other + other**2)


def _correlation(n: int, first: int, second: int, both: int) -> float:
    spread, shared = first * (n - first) * second * (n - second), n * both - first * second
    if shared > 0:
        return max(shared - n / 2, 0) / math.sqrt(spread)
    return shared / math.sqrt(spread) if spread else 0.0
