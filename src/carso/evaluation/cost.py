"""What votes will cost, measured on a few images before they are taken.

seconds = t / u * sum over images of K_i    t: time of a trial poll that used u candidates; K_i: those an image needs
"""

from __future__ import annotations

import time
from typing import Any, Protocol, runtime_checkable

import torch

from carso.progress import duration, note
from carso.types import ByAttributes, Images
from carso.vote import Stop, Tally

TRIAL = 0.2
"""Seconds of a poll from which on it is taken for a measure."""

CANDIDATES = 200
"""Of an image in a trial, at most; one that is open after them is taken to need all K."""

LONG = 30.0
"""Seconds of voting that are said beforehand."""


@runtime_checkable
class Voter(Protocol, metaclass=ByAttributes):
    """A defence; `carso.CARSO` is one."""

    samples: int
    purifier: Any

    def poll(self, images: Images, samples: int | None, stop: Stop | None, generator: torch.Generator | None) -> Tally:
        """Votes and samples used per image."""


def say_if_long(
    defence: Voter, images: Images, votes: int, samples: int | None = None, stop: Stop | None = None
) -> None:
    """Say what votes will cost, if that is long.

    Args:
        defence: whose votes they are.
        images: some of those voted on, (B, C, H, W) in [0, 1].
        votes: how many images are voted on.
        samples: K, by default the defence's own.
        stop: when a vote may stop early, likewise.
    """
    most = samples or defence.samples
    seconds = votes * seconds_each(defence, images, most, stop, LONG / max(1, votes))
    if seconds > LONG:
        note(
            f"{votes:,} votes of up to {most:,} candidates take about {duration(seconds)}, by a trial on a few images; "
            "--samples takes fewer"
        )


def seconds_each(defence: Voter, images: Images, samples: int, stop: Stop | None = None, enough: float = 0.0) -> float:
    """Seconds that a vote on one of these images takes, from a poll of as many images as a measure needs.

    A poll of few images is dear for each of them: one by which a vote takes no more than `enough` needs no better.
    """
    some, device = 1, next(defence.purifier.parameters()).device
    while True:
        began, generator = time.perf_counter(), torch.Generator().manual_seed(0)
        tally = defence.poll(images[:some].to(device), min(samples, CANDIDATES), stop, generator)
        took = time.perf_counter() - began
        needed = torch.where(tally.samples >= CANDIDATES, samples, tally.samples)
        each = took * float(needed.sum() / tally.samples.sum()) / len(needed)
        if took >= TRIAL or some >= len(images) or each <= enough:
            return each
        some *= 4
