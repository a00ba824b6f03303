"""Where the time of our own contestants goes, operation by operation."""

from __future__ import annotations

from collections.abc import Mapping

from benchmarks.speed.race import Contestant
from torch.profiler import ProfilerActivity, profile

LISTED = 8
"""Operations shown; the others are summed up."""


def profiles(contestants: Mapping[str, Contestant]) -> dict[str, dict[str, float]]:
    """For each contestant the shares (%) of its processor time by operation, the largest first, the rest as "other"."""
    return {name: _shares(contestant) for name, contestant in contestants.items()}


def _shares(contestant: Contestant) -> dict[str, float]:
    contestant()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        contestant()
    spent = {event.key: event.self_cpu_time_total for event in seen.key_averages()}
    total = sum(spent.values())
    first = sorted(spent, key=lambda key: -spent[key])[:LISTED]
    shares = {key: 100 * spent[key] / total for key in first}
    return shares | {"other": 100 - sum(shares.values())}
