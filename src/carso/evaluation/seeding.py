"""Independent random streams, one per seed and purpose: no figure depends on what is run, or resumed, beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Generator

from carso.nn.chance import pinned


def generator_of(seed: int, *names: object) -> Generator:
    """A generator on the CPU whose seed is a hash of `seed` and `names`."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@contextmanager
def seeded(seed: int, *names: object) -> Iterator[Generator]:
    """Seed the generators on which random targets draw, and yield one for the attack; restore them after.

    Args:
        seed: of the audit.
        names: what the randomness is for.
    """
    with pinned(generator_of(seed, *names, "target").initial_seed()):
        yield generator_of(seed, *names, "attack")
