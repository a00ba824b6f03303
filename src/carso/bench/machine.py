"""The machine's limits, measured where the work runs: matrix products and memory.

rate      2 m k n / t of one product (m, k) x (k, n), the best of many
bandwidth bytes read and written per second by a copy larger than the caches
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

Shape = tuple[int, int, int]


def best_seconds(work: Callable[[], object], budget: float = 0.25) -> float:
    """The least time of one call, over as many calls as fit into `budget` seconds, at least five."""
    work()
    least, end, calls = float("inf"), time.perf_counter() + budget, 0
    while calls < 5 or time.perf_counter() < end:
        started = time.perf_counter()
        work()
        least, calls = min(least, time.perf_counter() - started), calls + 1
    return least


def product_seconds(shapes: Sequence[Shape], dtype: torch.dtype, budget: float = 0.25) -> float:
    """The least time of all these products (m, k) x (k, n), one after the other."""
    total = 0.0
    for m, k, n in shapes:
        a, b, out = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype), torch.empty(m, n, dtype=dtype)
        total += best_seconds(lambda a=a, b=b, out=out: torch.mm(a, b.T, out=out), budget)  # type: ignore[misc]
    return total


def product_rate(dtype: torch.dtype, size: int = 2048, budget: float = 0.25) -> float:
    """Operations per second of a large square product."""
    return 2 * size**3 / product_seconds([(size, size, size)], dtype, budget)


def bandwidth(megabytes: int = 256, budget: float = 0.25) -> float:
    """Bytes per second, read and written, of a copy."""
    source = torch.zeros(megabytes * 2**20 // 4)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / best_seconds(lambda: target.copy_(source), budget)
