"""Independent random streams, one per seed and purpose: no figure depends on what is run, or resumed, beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Generator


def generator_of(seed: int, *names: object) -> Generator:
    """A generator on the CPU whose seed is a hash of `seed` and `names`."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@contextmanager
def seeded(device: torch.device, seed: int, *names: object) -> Iterator[Generator]:
    """Seed torch's own generators, on which random targets draw, and yield one for the attack; restore them after.

    Args:
        device: of the target.
        seed: of the audit.
        names: what the randomness is for.
    """
    generator = generator_of(seed, *names, "attack")
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(generator_of(seed, *names, "target").initial_seed())
        yield generator
