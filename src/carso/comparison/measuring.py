"""What is measured of a defence beside its audits: the thesis's rows, certificates, weights, and how long it takes.

thesis's rows    attacks crafted on N alone and handed on: a transfer threat model, which says little of a defence; on
                 other images than the thesis's, or within smaller radii, its attacks at the study's
certificates     of what certifies: right answers of images whose certified radius in L2 is at least r
seconds          median of predictions of the same images by the defence; as a multiple of N's, median of the ratios of
                 rounds in which both predict, for a machine that slows down slows both. What is its own N takes 1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from carso.comparison.results import Certified, CertifiedRow, Figures, ProtocolRow
from carso.data import Dataset
from carso.evaluation.environment import environment
from carso.evaluation.examples import SharedExamples
from carso.evaluation.models import Model, answer
from carso.evaluation.protocol import FGSM_L2, TABLE, Row, protocol_at
from carso.evaluation.results import Rate
from carso.evaluation.seeding import generator_of, seeded
from carso.progress import track
from carso.rivals import Smoothed
from carso.training.plan import timed
from carso.types import Images

ROWS = tuple(row for row in TABLE if row not in FGSM_L2)
"""The thesis's ten."""

TIMED, ROUNDS = 64, 9
"""Images of a prediction that is timed, and rounds of predictions."""

CHUNK = 100

CERTIFIED, VOTES, ALPHA, RADII = 100, 10_000, 0.001, (0.25, 0.5, 0.75)
"""Images that are certified, votes of each and the probability that one is wrong; the radii asked about."""


def rows_of(data: str, radii: Sequence[float]) -> tuple[Row, ...]:
    """The thesis's rows for its own images, its attacks at these radii for others, and where all are below its own."""
    if data == "mnist" and max(radii) >= min(row.eps for row in ROWS if row.budget is not None):
        return ROWS
    return tuple(row for row in protocol_at(radii).rows if row.directed_at == "classifier")


def classifier_of(subject: Any) -> Any:
    """The N on which the thesis's attacks are crafted: the one behind a purifier or a vote, else the subject itself.

    More than `carso.evaluation.models.behind` finds: a vote of noisy copies hides its N from an evaluation, but here
    every subject is held against the same attacks.
    """
    return getattr(subject, "classifier", subject)


def measured(
    subject: Any,
    test: Dataset,
    examples: SharedExamples,
    seed: int,
    trained: float | None,
    rows: Sequence[Row] = ROWS,
) -> Figures:
    """All of it, on the test images that are given."""
    found = [_row(subject, row, test, examples, seed) for row in track(rows, "attacks on N")]
    few = test[:TIMED].images
    seconds, of_n = _cost(subject, classifier_of(subject), few, seed)
    weights = own_weights(subject) if isinstance(subject, nn.Module) else 0
    cpu = environment().cpu
    return Figures(
        trained=trained,
        weights=weights,
        seconds=seconds,
        of_n=of_n,
        cpu=cpu,
        protocol=found,
        certified=_certified(subject, test[:CERTIFIED], seed) if isinstance(subject, Smoothed) else None,
    )


def own_weights(subject: nn.Module) -> int:
    """How many weights it has, but for those that are there only for its attacker."""
    theirs = tuple(f"{name}." for name in getattr(subject, "attackers", ()))
    return sum(weight.numel() for name, weight in subject.named_parameters() if not name.startswith(theirs))


def _row(subject: Model, row: Row, test: Dataset, examples: SharedExamples, seed: int) -> ProtocolRow:
    correct = 0
    for start in range(0, len(test), CHUNK):
        some = test[start : start + CHUNK]
        attacked = examples(row, classifier_of(subject), some.images, some.required_labels, start)
        correct += int((_answers(subject, attacked, seed, row.key, start) == some.required_labels).sum())
    return ProtocolRow(attack=row.attack, norm=row.norm, eps=row.eps, result=Rate.of(correct, len(test)))


def _certified(subject: Smoothed, test: Dataset, seed: int) -> Certified:
    chance = generator_of(seed, "certificates")
    found = subject.certify(test.images, samples=VOTES, alpha=ALPHA, generator=chance)
    right = found.classes == test.required_labels
    rows = [
        CertifiedRow(eps=eps, result=Rate.of(int((right & (found.radii >= eps)).sum()), len(test))) for eps in RADII
    ]
    return Certified(samples=VOTES, alpha=ALPHA, rows=rows)


def _answers(subject: Model, images: Images, seed: int, *names: object) -> Tensor:
    with seeded(seed, *names):
        return answer(subject, images, generator_of(seed, *names)).predicted.long()


def _cost(subject: Model, classifier: Model, images: Images, seed: int) -> tuple[float, float]:
    """Seconds of a prediction of one image, and how many of N's it takes: 1 of N itself."""
    alone = subject is classifier
    works: Sequence[Callable[[], object]] = [
        partial(_answers, model, images, seed, "seconds") for model in ((subject,) if alone else (subject, classifier))
    ]
    with torch.no_grad():
        for work in works:
            work()
        rounds = [[timed(work)[1] for work in works] for _ in range(ROUNDS)]
    own = median(taken[0] for taken in rounds) / len(images)
    return own, 1.0 if alone else median(mine / plain for mine, plain in rounds)
