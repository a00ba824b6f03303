"""How hard an audit tries, as data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

Effort: TypeAlias = Literal["quick", "standard", "full"]

ATTACKS = 5
"""Which attacks these are: raised with every change by which an audit of the same sizes may leave another figure."""

SPARSE = (0.003, 0.007, 0.02, 0.05)
"""Shares of the pixels along which the steps of an attack in L2 go."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of every attack.

    Args:
        n: images, unless the caller says otherwise.
        tuning: images on which numbers of steps and candidates are chosen, and the checks are measured.
        eot: candidates per gradient to choose from, for a random target.
        steps: steps of annealed PGD to choose from.
        restarts: runs of annealed PGD, at least and at most: it ends once the later half of them gains almost nothing.
        neighbours: the same from the nearest images of other classes.
        other: the same on the other loss.
        long: steps and runs of its long variant.
        survivors: images at most for the long variant and for the one with more candidates; None for all.
        aggregates: runs of annealed PGD on each further aggregate of a random target.
        around: candidates per gradient averaged around the image, and runs at each distance and with each loss, where
            gradients are misleading.
        rivals: classes that the targeted attack goes for in turn, by falling score.
        unbounded: steps at least of annealed PGD where the attacker may draw any image.
        plain: steps of plain PGD, Auto-PGD, BPDA and the transfers.
        deepfool: linearisations; 0 for no DeepFool.
        queries: of the Square attack.
        spsa: steps and directions.
        spsa_images: images at most for SPSA and for the attack on votes, whose queries cost most.
        votes_queries: of the Square attack on shares of the vote.
        draws: of noise.
        autoattack: whether AutoAttack runs, if it is installed.
    """

    n: int
    tuning: int
    eot: tuple[int, ...]
    steps: tuple[int, ...]
    restarts: tuple[int, int]
    neighbours: tuple[int, int]
    other: tuple[int, int]
    long: tuple[int, int]
    survivors: int | None
    aggregates: int
    around: tuple[int, int]
    rivals: int
    unbounded: int
    plain: int
    deepfool: int
    queries: int
    spsa: tuple[int, int]
    spsa_images: int
    votes_queries: int
    draws: int
    autoattack: bool


SIZES: dict[Effort, Sizes] = {
    "quick": Sizes(
        n=500,
        tuning=60,
        eot=(1, 4),
        steps=(50, 100),
        restarts=(4, 12),
        neighbours=(2, 12),
        other=(1, 3),
        long=(400, 1),
        survivors=100,
        aggregates=1,
        around=(4, 1),
        rivals=2,
        unbounded=100,
        plain=40,
        deepfool=0,
        queries=150,
        spsa=(12, 16),
        spsa_images=20,
        votes_queries=0,
        draws=2,
        autoattack=False,
    ),
    "standard": Sizes(
        n=500,
        tuning=100,
        eot=(1, 4),
        steps=(50, 100, 200),
        restarts=(8, 48),
        neighbours=(4, 48),
        other=(2, 12),
        long=(1000, 1),
        survivors=None,
        aggregates=2,
        around=(8, 1),
        rivals=9,
        unbounded=100,
        plain=100,
        deepfool=30,
        queries=1000,
        spsa=(30, 32),
        spsa_images=60,
        votes_queries=200,
        draws=5,
        autoattack=False,
    ),
    "full": Sizes(
        n=1000,
        tuning=200,
        eot=(1, 4, 16),
        steps=(50, 100, 200, 400, 800),
        restarts=(16, 96),
        neighbours=(8, 96),
        other=(6, 24),
        long=(2000, 6),
        survivors=None,
        aggregates=6,
        around=(32, 2),
        rivals=9,
        unbounded=100,
        plain=200,
        deepfool=50,
        queries=5000,
        spsa=(60, 64),
        spsa_images=200,
        votes_queries=1000,
        draws=50,
        autoattack=True,
    ),
}


@dataclass(frozen=True)
class Settings:
    """What an audit is told, besides its target, images and budgets.

    Args:
        effort: how hard it tries.
        votes: k, by which an image of a random target is judged.
        eot: candidates per gradient that the caller insists on; None for those that the tuning chooses.
        seed: of all chance.
        chunk: images attacked and judged at a time; None for `CHUNK` attacked, and all of them judged clean.
        reject_at: the rate of false alarms at which images are turned away, if any are.
    """

    effort: Effort
    votes: int
    eot: int | None
    seed: int
    chunk: int | None
    reject_at: float | None

    @property
    def sizes(self) -> Sizes:
        """Of the attacks."""
        return SIZES[self.effort]


def settings_of(efforts: Iterable[Effort]) -> dict[str, Any]:
    """What decides audits of these efforts: which attacks, and their sizes."""
    sizes = {effort: asdict(SIZES[effort]) for effort in sorted({*efforts})}
    return {"attacks": ATTACKS, "sparse": SPARSE, "sizes": sizes}
