"""Predictions for pictures on disk, with the shares of the vote, or the probabilities of a plain classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from carso.contract import check_classifier
from carso.data import read_image
from carso.data.digits import meant
from carso.data.labelled import named
from carso.defence import CARSO
from carso.detection import Confidence
from carso.evaluation.cost import say_if_long
from carso.evaluation.evaluate import chunk_of
from carso.evaluation.models import device_of
from carso.nn import evaluating, query
from carso.vote import Stop


@dataclass(frozen=True)
class Prediction:
    """What a defence says of one picture: the class, the shares of the votes in [0, 1], the samples drawn.

    Of a plain classifier `shares` are its probabilities, and `samples` 0. `names` are the classes' own where they are
    known, else their numbers; `accepted` is whether the picture is believed, if that was asked.
    """

    path: Path
    label: int
    shares: tuple[float, ...]
    samples: int
    names: tuple[str, ...]
    accepted: bool | None = None

    @property
    def name(self) -> str:
        """Of the class."""
        return self.names[self.label]


def predict(
    defence: CARSO,
    paths: Sequence[Path],
    *,
    seed: int = 0,
    stop: Stop = "confident",
    reject_at: float | None = None,
) -> list[Prediction]:
    """Classify pictures of any size, by the defence's own aggregation; no other than the mode stops early.

    Args:
        defence: whom to ask.
        paths: of the pictures.
        seed: of the latents.
        stop: of the vote.
        reject_at: the rate of false alarms at which pictures are turned away; None to believe all.

    Raises:
        DataError: naming the file that cannot be used.
        CarsoError: if the defence cannot turn away at that rate.
    """
    names = named(defence.class_names, defence.classes)
    digits = meant(defence.purifier.shape, names, defence.data)
    images = torch.stack([read_image(path, defence.purifier.shape, digits) for path in paths]).to(device_of(defence))
    say_if_long(defence, images, len(images), stop=stop if defence.aggregation == "mode" else "never")
    labels, tally = defence.elect(images, stop, seed)
    accepted: list[bool | None] = [None] * len(paths)
    if reject_at is not None:
        accepted = defence.detect(images, reject_at, labels, _source(seed)).accepted.tolist()
    rows = zip(paths, labels.tolist(), tally.shares.tolist(), tally.samples.tolist(), accepted, strict=True)
    return [Prediction(path, label, tuple(shares), k, names, believed) for path, label, shares, k, believed in rows]


def classified(
    classifier: nn.Module,
    paths: Sequence[Path],
    shape: tuple[int, int, int],
    names: Sequence[str] | None = None,
    data: str | None = None,
    *,
    reject_at: float | None = None,
) -> list[Prediction]:
    """Classify pictures of any size by a plain classifier.

    Args:
        classifier: whom to ask.
        paths: of the pictures.
        shape: (C, H, W) of its images.
        names: of its classes, if they are known; they count if there is one for each.
        data: the data set that it was trained on, if it is known.
        reject_at: the rate of false alarms at which a calibrated `Confidence` turns pictures away; None to believe all.

    Raises:
        DataError: naming the file that cannot be used.
        ModelError: if it breaks the contract on images of that shape.
        CarsoError: if it cannot turn away at that rate.
    """
    classes, place = check_classifier(classifier, shape), device_of(classifier)
    called = named(names if names is not None and len(names) == classes else None, classes)
    images = torch.stack([read_image(path, shape, meant(shape, called, data)) for path in paths]).to(place)
    with torch.no_grad(), evaluating(classifier):
        shares = torch.cat([query(classifier, some) for some in images.split(chunk_of(shape))]).softmax(1)
    accepted: list[bool | None] = [None] * len(paths)
    if reject_at is not None and isinstance(classifier, Confidence):
        accepted = classifier.detect(images, reject_at).accepted.tolist()
    rows = zip(paths, shares.argmax(1).tolist(), shares.tolist(), accepted, strict=True)
    return [Prediction(path, label, tuple(own), 0, called, believed) for path, label, own, believed in rows]


def _source(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)
