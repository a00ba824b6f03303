"""Wilson's score interval for a proportion, and Newcombe's for the difference of two.

    centre = (p + z^2 / 2n) / (1 + z^2 / n)
    half   = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2)

with p = correct / n and z the normal quantile of the confidence. Unlike the normal approximation it stays inside
[0, 100] % and keeps its coverage near 0 and 100 %, where robust accuracies often lie.

    p - p' - sqrt((p - l)^2 + (h' - p')^2)  to  p - p' + sqrt((h - p)^2 + (p' - l')^2)      the difference's

[l, h] and [l', h'] are Wilson's of both. Of the same images under two defences, which mostly agree, it is wide.

Sources: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927); R. G.
Newcombe, Interval estimation for the difference between independent proportions, Statistics in Medicine 17 (1998).
"""

from __future__ import annotations

import math
from statistics import NormalDist


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
    own: float, own_ends: tuple[float, float], other: float, other_ends: tuple[float, float]
) -> tuple[float, float]:
    """The interval of `own - other`, two accuracies in percent with the ends of their intervals, in points."""
    low = math.hypot(own - own_ends[0], other_ends[1] - other)
    high = math.hypot(own_ends[1] - own, other - other_ends[0])
    return own - other - low, own - other + high
