"""The machine's limits, measured where the work runs: matrix products and memory.

rate      2 m k n / t of one product (m, k) x (k, n), the best of many
bandwidth bytes read and written per second by a copy larger than the caches
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from benchmarks.speed.race import CLOCKS, Clock

Shape = tuple[int, int, int]


def best_seconds(work: Callable[[], object], budget: float = 0.25, clock: Clock = "wall") -> float:
    """The least time of one call, over as many calls as fit into `budget` seconds, at least five."""
    work()
    now = CLOCKS[clock]
    least, end, calls = float("inf"), now() + budget, 0
    while calls < 5 or now() < end:
        started = now()
        work()
        least, calls = min(least, now() - started), calls + 1
    return least


def product_seconds(shapes: Sequence[Shape], dtype: torch.dtype, budget: float = 0.25, clock: Clock = "wall") -> float:
    """The least time of all these products (m, k) x (k, n), one after the other, each by the fastest way to it."""
    return sum((min(best_seconds(way, budget, clock) for way in _ways(*shape, dtype)) for shape in shapes), 0.0)


def _ways(m: int, k: int, n: int, dtype: torch.dtype) -> list[Callable[[], object]]:
    """Torch's own product, and oneDNN's with a weight laid out for it, where there is one."""
    a, b, out = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype), torch.empty(m, n, dtype=dtype)
    ways: list[Callable[[], object]] = [lambda: torch.mm(a, b.T, out=out)]
    if torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(b, m)
        ways.append(lambda: torch.ops.mkldnn._linear_pointwise(a, packed, None, "none", [], ""))
    return ways


def product_rate(dtype: torch.dtype, clock: Clock = "wall", size: int = 2048, budget: float = 0.25) -> float:
    """Operations per second of a large square product."""
    return 2 * size**3 / product_seconds([(size, size, size)], dtype, budget, clock)


def bandwidth(clock: Clock = "wall", megabytes: int = 256, budget: float = 0.25) -> float:
    """Bytes per second, read and written, of a copy."""
    source = torch.zeros(megabytes * 2**20 // 4)
    target = torch.empty_like(source)
    return 2 * source.numel() * 4 / best_seconds(lambda: target.copy_(source), budget, clock)
