"""How accuracy grows with K, the number of votes: the thesis's sample sweep.

The candidates of one image are independent, so the votes of the first K of them are the sum of the votes of consecutive
blocks. One run of the largest K therefore serves every K of the sweep.

Source: E. Ballarin, MSc thesis, University of Trieste, 2022, section 3.3.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from carso.evaluation.models import Defence
from carso.evaluation.queries import checked_query
from carso.vote import mode

SAMPLES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 1500)


def up_to(most: int) -> tuple[int, ...]:
    """The numbers of votes to look at, up to and including `most`."""
    return (*(k for k in SAMPLES if k < most), most)


def elected(
    defence: Defence, images: Tensor, samples: Sequence[int], generator_of: Callable[[int], torch.Generator]
) -> Tensor:
    """The class that each image's first K votes elect, for every K.

    Args:
        defence: whose votes are counted, all of them, without an early stop.
        images: (B, C, H, W) in [0, 1].
        samples: increasing numbers K of votes.
        generator_of: the latents' generator for the block of votes that ends at K.

    Returns:
        Classes (len(samples), B).
    """
    if list(samples) != sorted(set(samples)) or min(samples, default=0) < 1:
        raise ValueError(f"samples must be increasing and positive, not {list(samples)}")
    if getattr(defence, "fixed_by", None) is not None:
        polled = [checked_query(defence.poll, images, samples=most, stop="never") for most in samples]
        return torch.stack([mode(tally.counts) for tally in polled]).cpu().int()
    blocks = [
        checked_query(defence.poll, images, samples=after - before, stop="never", generator=generator_of(after)).counts
        for before, after in pairwise((0, *samples))
    ]
    return torch.stack([mode(counts) for counts in torch.stack(blocks).cumsum(0)]).cpu().int()
