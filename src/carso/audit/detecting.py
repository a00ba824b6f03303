"""A defence that rejects images, as a target: an image is broken only if a wrong class is elected and accepted.

    answer      the elected class, or AWAY
    attacked    a(x)_y = log p(y | x) + mean_k log p(y | x_k)     both witnesses at once (see `carso.detection`)

An attack that maximises a(x) for a wrong class makes it the answer, and makes the two witnesses agree on it, so that
the image is accepted. A plain classifier rejects images of low confidence. Attacks follow its own scores. They do not
stop at the first misclassified point, where confidence is lowest, but go on as against a random model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from carso.attacks.eot import mean_log_probability
from carso.audit.results import Turned
from carso.audit.target import SEEN, Known, Target
from carso.audit.verdict import AWAY, classes_of
from carso.defence import CARSO
from carso.detection import Confidence
from carso.evaluation.queries import checked_query
from carso.evaluation.results import Believed
from carso.evaluation.seeding import seeded
from carso.fast import batch_of
from carso.types import CandidateLogits, Classifier, Images, Labels, Logits


def detecting(target: Target, subject: CARSO | Confidence, false_alarms: float) -> Target:
    """The target of a calibrated defence or classifier that turns images away.

    Args:
        target: the same when it believes everything.
        subject: whom to ask what is believed.
        false_alarms: the rate of clean images that may be turned away.
    """

    def answer(images: Images) -> Labels:
        found = subject.detect(images, false_alarms)
        return torch.where(found.accepted, found.classes, AWAY)

    name = f"{target.name}, turning away {100 * false_alarms:g} % of clean images"
    identity = f"{target.identity}, {false_alarms}, {subject.calibration}"
    changed = replace(target, name=name, answer=answer, identity=identity, fresh=None, turns_away=True)
    return restless(changed) if isinstance(subject, Confidence) else _with_both_witnesses(changed, subject.classifier)


def restless(target: Target) -> Target:
    """The target as attacks see it that are to climb on where its scores are fooled."""
    drawn = target.candidates
    assert isinstance(drawn, Known | None)
    candidates = None if drawn is None else replace(drawn, varies=True)
    return replace(target, scores=Known(target.scores, batch_of(target.scores), varies=True), candidates=candidates)


def _with_both_witnesses(target: Target, classifier: Classifier) -> Target:
    drawn, known, exact = target.candidates, target.known, target.exact
    assert isinstance(drawn, Known)
    assert known is not None
    assert exact is not None

    def own(images: Images) -> Logits:
        logits: Logits = checked_query(classifier, images, f"the classifier of {target.name}")
        return logits.log_softmax(1)

    def candidates(images: Images, samples: int) -> CandidateLogits:
        return drawn(images, samples) + own(images).unsqueeze(1)

    def beside(fixed: Callable[[int, int], Classifier], seed: int, samples: int) -> Classifier:
        recalled = fixed(seed, samples)
        return Known(lambda images: recalled(images) + own(images), drawn.batch, varies=False)

    return replace(
        target,
        scores=Known(lambda images: mean_log_probability(candidates(images, SEEN)), drawn.batch, varies=True),
        candidates=Known(candidates, drawn.batch, varies=True),
        known=partial(beside, known),
        exact=partial(beside, exact),
        own=None,
        votes=None,
    )


def turned(target: Target, images: Images, attacked: Images, labels: Labels, false_alarms: float, seed: int) -> Turned:
    """One fresh verdict each on clean and attacked images (n, C, H, W) of classes (n,)."""
    with seeded(seed, "turned away"):
        answers = [classes_of(target, some) for some in (images, attacked)]
    clean, worst = (Believed.of(given != AWAY, given == labels, false_alarms) for given in answers)
    return Turned(clean=clean, attacked=worst)
