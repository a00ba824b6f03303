"""Images without labels, judged by a classifier's own clean answers: what is measured is how often it keeps them."""

from __future__ import annotations

from dataclasses import replace

import torch

from carso.data import Dataset
from carso.data.labelled import names_of, numbers
from carso.evaluation.models import device_of
from carso.evaluation.results import OWN
from carso.nn import evaluating, query
from carso.nn.querying import answers
from carso.progress import note
from carso.types import Classifier, Labels

CHUNK = 100
"""Images that N is asked about at a time."""


def labelled(images: Dataset, classifier: Classifier, most: int | None = None) -> Dataset:
    """The images with their labels, or with N's own answers where they have none, which is said; their name says it.

    Args:
        images: labelled or not.
        classifier: N.
        most: how many are needed: of images without labels the others are left out, and N is not asked about them.

    Returns:
        All images as they lie where they have labels, else the first `most` of `Dataset.in_turns`.
    """
    if images.labels is not None:
        return images
    images = images.in_turns()[:most]
    note(f"{images.name}: has no labels; the classifier's own clean answers stand for them")
    return replace(answered(images, classifier, names_of(classifier)), name=images.name + OWN)


def answered(images: Dataset, classifier: Classifier, names: tuple[str, ...] | None) -> Dataset:
    """The images with N's own answers for labels, whose classes have these names, or numbers."""
    with torch.no_grad(), evaluating(classifier):
        classes = query(classifier, images[:1].images.to(device_of(classifier))).shape[1]
    return replace(images, labels=answers_of(classifier, images), classes=names or numbers(classes))


def answers_of(classifier: Classifier, images: Dataset) -> Labels:
    """N's class of each image (N,), on the CPU."""
    device = device_of(classifier)
    return answers(classifier, (some.to(device) for _, some in images.chunks(CHUNK))).cpu()
