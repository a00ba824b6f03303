"""What a study costs, said before it starts: trainings, attacks and votes, each measured on a few images.

    seconds = sum over stages still to be trained                                   as `carso.training.plan` has it
            + N's t_classifier + defences' t_defence + runs' t_votes                N's, defences: different ones, each
                                                                                    attacked once; runs: variants, base
    t(n)    = t(m) + (n - m) (t(m) - t(k)) / (m - k)                                from trials on k and on m images

The trial is of the base, before its training with networks of their first weights, whose votes settle at once: it is a
guess at what trained ones take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from carso.data import Dataset
from carso.defence import CARSO
from carso.evaluation.examples import AdversarialExamples
from carso.evaluation.models import answer, exposed
from carso.evaluation.protocol import Row
from carso.evaluation.seeding import generator_of
from carso.progress import duration, note
from carso.training.plan import SHORT, Cost, timed
from carso.vote import Stop

FEW, SOME = 8, 32
"""Images of the two trials."""


@dataclass(frozen=True)
class Work:
    """What is to be evaluated.

    Attributes:
        classifiers: different N's.
        defences: different defences, however they vote.
        runs: variants, and the base.
        images: of each row.
    """

    classifiers: int
    defences: int
    runs: int
    images: int


def seconds_of(work: Work, build: Callable[[], CARSO], test: Dataset, rows: Sequence[Row], stop: Stop) -> float:
    """Of all evaluations, by trials of a defence that is built; 0 for images too few to be worth a trial."""
    if work.images <= SOME:
        return 0.0
    defence = build()
    aims = [(work.classifiers, "classifier"), (work.defences, "defence")]
    crafting = sum(times * _extrapolated(partial(_craft, defence, test, rows, aim), work.images) for times, aim in aims)
    voting = _extrapolated(partial(_vote, defence, test, stop), work.images)
    return crafting + work.runs * len(rows) * voting


def announce(costs: Sequence[Cost], evaluation: float) -> None:
    """Say what all of it will take, stage by stage, if that is more than a few seconds."""
    training = sum(cost.seconds for cost in costs)
    if training + evaluation < SHORT:
        return
    for cost in costs:
        note(str(cost))
    note(
        f"the ablations will take about {duration(training + evaluation)}: trainings {duration(training)}, "
        f"evaluations {duration(evaluation)}"
    )


def _extrapolated(work: Callable[[int], object], images: int) -> float:
    """Seconds of work on so many images, from those on few and on some."""
    work(FEW)
    few, some = (timed(partial(work, n))[1] for n in (FEW, SOME))
    return some + (images - SOME) * max(0.0, some - few) / (SOME - FEW)


def _craft(defence: CARSO, test: Dataset, rows: Sequence[Row], aim: str, n: int) -> None:
    crafting, images, labels = AdversarialExamples(0), test[:n].images, test[:n].required_labels
    for row in rows:
        if row.directed_at == aim:
            crafting(row, exposed(defence, row.directed_at), images, labels, 0)


def _vote(defence: CARSO, test: Dataset, stop: Stop, n: int) -> None:
    answer(defence, test[:n].images, generator_of(0, "trial"), stop=stop)
