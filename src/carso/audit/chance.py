"""Chance, decided by a seed and the names of what it is for, so that a resumed audit meets the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator

from carso.evaluation.streams import stream


@contextmanager
def chance(device: torch.device, seed: int, *names: object) -> Iterator[Generator]:
    """Seed torch's own generators, on which random targets draw, and yield one for the attack; restore them after.

    Args:
        device: of the target.
        seed: of the audit.
        names: what the chance is for.
    """
    generator = stream(seed, *names, "attack")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(stream(seed, *names, "target").initial_seed())
        yield generator
