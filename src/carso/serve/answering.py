"""What is asked: a defence in torch, or the ONNX file that `carso export` wrote of one.

    torch          fresh latents in every batch, the vote stops early, and N alone is asked, too
    onnxruntime    the latents of the file, all K of them; N alone is not in the file

Where N alone says another class than the vote, the image may have been tampered with: that is told as a disagreement.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from carso.data.digits import meant
from carso.data.labelled import named
from carso.defence import CARSO
from carso.errors import ModelError
from carso.nn import evaluating, query
from carso.storage.export import facts_of, session_of
from carso.types import Images

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Answer:
    """What is said of one image.

    Attributes:
        label: the elected class.
        shares: of the votes that each class got, in [0, 1].
        samples: candidates that voted.
        alone: what N says of the image itself; None where it was not asked.
    """

    label: int
    shares: Sequence[float]
    samples: int
    alone: int | None = None

    @property
    def disagrees(self) -> bool | None:
        """Whether N alone says another class; None where it was not asked."""
        return None if self.alone is None else self.alone != self.label

    def told(self, names: Sequence[str]) -> dict[str, Any]:
        """As JSON, with the names of the classes."""
        alone = None if self.alone is None else {"class": self.alone, "name": names[self.alone]}
        return {
            "class": self.label,
            "name": names[self.label],
            "share": self.shares[self.label],
            "shares": dict(zip(apart(names), self.shares, strict=True)),
            "disagreement": self.disagrees,
            "classifier": alone,
            "samples": self.samples,
        }


def apart(names: Sequence[str]) -> list[str]:
    """The names of classes, those that several have with the class's number behind them."""
    counts = Counter(names)
    return [name if counts[name] == 1 else f"{name} ({k})" for k, name in enumerate(names)]


@runtime_checkable
class Answering(Protocol):
    """Who answers.

    Attributes:
        name: of the defence.
        engine: what computes it.
        shape: (C, H, W) of its images.
        names: of its classes, in order.
        samples: K, candidates per image at most.
        digits: whether its images are MNIST's digits, into which pictures are then made.
    """

    name: str
    engine: str
    digits: bool
    shape: Shape
    names: Sequence[str]
    samples: int

    def __call__(self, images: Images) -> list[Answer]:
        """An answer for each of the images (B, C, H, W) in [0, 1]."""


class ByTorch:
    """A defence in torch.

    Args:
        defence: who answers.
        name: of it.
    """

    engine = "torch"

    def __init__(self, defence: CARSO, name: str) -> None:
        self.defence, self.name = defence, name
        self.shape, self.samples = defence.purifier.shape, defence.samples
        self.names: Sequence[str] = named(defence.class_names, defence.classes)
        self.digits = meant(self.shape, self.names, defence.data)

    def __call__(self, images: Images) -> list[Answer]:
        """An answer for each of the images (B, C, H, W) in [0, 1], by fresh latents."""
        labels, tally = self.defence.elect(images)
        with torch.no_grad(), evaluating(self.defence.classifier):
            alone = query(self.defence.classifier, images).argmax(1)
        rows = zip(labels.tolist(), tally.shares.tolist(), tally.samples.tolist(), alone.tolist(), strict=True)
        return [Answer(*row) for row in rows]


class ByOnnx:
    """A whole defence as one ONNX file.

    Args:
        path: of the file.

    Raises:
        ModelError: if onnxruntime or the file is missing, or it is not a defence that `carso export` wrote.
    """

    engine = "onnxruntime"

    def __init__(self, path: Path) -> None:
        self.session = session_of(path)
        facts = facts_of(self.session)
        if facts.get("answers") != ["votes", "winners"]:
            found = "a classifier alone" if facts.get("answers") == ["logits"] else "not what carso exports"
            raise ModelError(f"{path}: is {found}; `carso export DEFENCE --out FILE` writes a whole defence")
        self.name, self.samples = str(facts["name"]), int(facts["samples"])
        channels, height, width = facts["shape"]
        self.shape: Shape = (channels, height, width)
        self.names: Sequence[str] = named(facts.get("names"), facts["classes"])
        self.digits = meant(self.shape, self.names, facts.get("data"))

    def __call__(self, images: Images) -> list[Answer]:
        """An answer for each of the images (B, C, H, W) in [0, 1], by the latents of the file."""
        votes, winners = self.session.run(["votes", "winners"], {"images": images.numpy()})
        shares = (votes / self.samples).tolist()
        return [Answer(label, row, self.samples) for label, row in zip(winners.tolist(), shares, strict=True)]


def tried(answering: Answering) -> Answering:
    """Who answers, once it has answered: what cannot run is found out before anybody asks.

    Raises:
        ModelError: if it has no answer.
    """
    answering(torch.zeros(1, *answering.shape))
    return answering
