"""The survey: what a classifier, its images and its purifier are, and how fast each is on this machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress

from torch import nn

from carso.correction import CorrectivePurifier
from carso.data import Dataset, splits_of
from carso.defence import CARSO
from carso.evaluation.examples import AdversarialExamples
from carso.evaluation.labelling import answers_of
from carso.evaluation.models import answer, device_of, exposed
from carso.evaluation.protocol import DEEPFOOL, Row
from carso.evaluation.results import Target
from carso.evaluation.seeding import generator_of
from carso.hardening.plan import Rates
from carso.purifier import ConvolutionalPurifier
from carso.training.experiment import Experiment
from carso.training.plan import timed
from carso.training.recipe import PurifierSpec
from carso.types import Budget, Norm

TRIED = 16
"""Images by which the speed of attacks is measured."""

SHORT, LONG = 2, 6
"""Steps of two attacks, whose difference is the cost of steps alone."""

KINDS: dict[type, str] = {ConvolutionalPurifier: "convolutional", CorrectivePurifier: "corrective"}
"""Of purifiers, in words."""

HELD_OUT = 500
"""Held-out images that N is tried on, at most."""


def rates_of(defence: CARSO, images: Dataset, eps: float, norm: Norm) -> Rates:
    """Seconds per image of what evaluation and audit are made of."""
    few, budget, device = images[:TRIED], Budget(norm, eps), device_of(defence)

    def attack(kind: str, target: Target, **options: int | float) -> float:
        row = Row(kind, budget, directed_at=target, options=options)
        aim, clean, labels = exposed(defence, target), few.images.to(device), few.required_labels.to(device)
        return _speed(lambda: AdversarialExamples(0)(row, aim, clean, labels, 0), len(few))

    def gradient(kind: str, target: Target) -> float:
        short, long = (attack(kind, target, steps=steps) for steps in (SHORT, LONG))
        return (long - short) / (LONG - SHORT) if long > short else long / LONG

    return Rates(
        classifier=gradient("pgd", "classifier"),
        defence=gradient("pgd-eot", "defence"),
        vote=_speed(lambda: answer(defence, few.images.to(device), generator_of(0, "vote")), len(few)),
        deepfool=attack("deepfool", "classifier", **DEEPFOOL),
    )


def _speed(work: Callable[[], object], images: int) -> float:
    """Seconds per image of the second call: the first one warms up."""
    work()
    return timed(work)[1] / images


def described(defence: CARSO, experiment: Experiment, test: Dataset, name: str) -> Iterator[str]:
    """What classifier, images and purifier are, a line each."""
    classifier, purifier, train = defence.classifier, defence.purifier, experiment.train
    held_out = experiment.validation[:HELD_OUT]
    kind = KINDS.get(type(purifier), "dense") + recalling(experiment.recipe.purifier)
    yield (
        f"classifier  {name}, a {type(classifier).__name__} of {_weights(classifier):,} weights and {defence.classes} "
        f"classes; {_accuracy(classifier, held_out)}"
    )
    yield (
        f"images      {experiment.recipe.data}: {len(train):,} to learn from, {len(experiment.validation):,} held out, "
        f"{len(test):,} to test on; {' x '.join(map(str, train.shape))}"
    )
    yield from seen(experiment.recipe.data)
    yield (
        f"purifier    {kind}, {_weights(purifier):,} weights; reads {purifier.neurons:,} numbers an image "
        f"({', '.join(defence.representation.layers)}); {defence.samples} candidates an image"
    )
    if (peak := peak_memory()) is not None:
        yield f"memory      {peak / 2**30:.1f} GiB at its highest in the trial of a batch"


def seen(source: str) -> Iterator[str]:
    """Which of the images the classifier may have been trained on, though they are to judge it; nothing if none."""
    own = splits_of(source)
    if "validation" not in own:
        held_out = "held-out images are of train" if "test" in own else "these parts were made here, by names"
        yield (
            f"caution     {held_out}: pictures that the classifier was trained on make it look better than it is, and "
            "the rate of false alarms too small"
        )


def recalling(spec: PurifierSpec) -> str:
    """How candidates differ from the image by design."""
    parts = [
        f"with contrast against changes of up to {spec.contrast:.3g}" if spec.contrast else "",
        f"seen from {spec.shift} pixels away" if spec.shift else "",
        "seen in a mirror" if spec.flip else "",
    ]
    return "".join(f", {part}" for part in parts if part)


def _accuracy(classifier: nn.Module, held_out: Dataset) -> str:
    if held_out.labels is None:
        return "the images have no labels, so its own clean answers count as right"
    right = (answers_of(classifier, held_out) == held_out.labels).sum().item()
    return f"right on {right} of {len(held_out)} held-out images"


def _weights(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def peak_memory() -> int | None:
    """Bytes that the process has held at most so far; None where the system does not say."""
    with suppress(ImportError):
        import resource
        import sys

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return None
