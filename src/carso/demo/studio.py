"""What the demo can do with one image: attack it, ask every model, follow a vote, walk through the latents.

    vote        counts_t = counts_{t-1} + sum of onehot(argmax N(D(z_k, c))) over round t, until it is settled
    walk        D(z, c) with z = a e_i + b e_j: what the code keeps when the two latents move that change it most

Everything here is plain Python and tensors; `carso.demo.server` speaks HTTP.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from carso import attacks
from carso.attacks import Attack
from carso.data import Dataset
from carso.data.digits import meant
from carso.data.labelled import named
from carso.defence import CARSO
from carso.detection import threshold_of
from carso.errors import CarsoError, DataError
from carso.nn import evaluating, query
from carso.recall import at_a_time, classify, recall, rounds
from carso.types import Budget, Classifier, Codes, Images, Labels, Latents, Norm
from carso.vote import AGGREGATES, Stop, count, mode, settled

Aim = Literal["classifier", "defence"]

ATTACKS: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("No attack", {}),
    "noise": ("Random noise", {}),
    "fgsm": ("FGSM, one step", {}),
    "pgd": ("PGD, 40 steps", {"steps": 40}),
    "annealed": ("Annealed PGD, 40 steps", {"steps": 40}),
}
"""Key -> its title and the options of the attack of that name."""

FALSE_ALARMS = 0.01
"""Share of clean images that the demo may turn away."""

SHOWN = 20
"""Candidates of each round that are shown."""

LOOKED_AT, FAR = 2, 2.0
"""Images by which the latents of a walk are chosen, and how far each is moved, either way, to see what it changes."""


@dataclass(frozen=True)
class Answer:
    """One model's answer: its class and the share of each class in [0, 1]."""

    model: str
    label: int
    shares: list[float]


@dataclass(frozen=True)
class Round:
    """The vote after a round.

    Attributes:
        counts: per class.
        samples: candidates so far.
        decided: whether this is the end of it.
        candidates: some of the round's.
        votes: theirs.
        elected: at the end, the class that the defence's own aggregation elects.
        believed: at the end, whether the two witnesses agree on the elected class; None if the defence cannot tell.
    """

    counts: list[int]
    samples: int
    decided: bool
    candidates: Images
    votes: list[int]
    elected: int | None = None
    believed: bool | None = None


class Studio:
    """A defence and what stands beside it.

    Args:
        defence: in its own device; `defence.samples` bounds the vote.
        undefended: a classifier without defence, if there is one.
        dataset: images of the same shape, to pick from.
        name: what the page calls the defence.
        adversarial: whether its classifier is known to be trained against attacks.
        radii: by norm, at which the page's attacks begin; its own where none is given.
    """

    def __init__(
        self,
        defence: CARSO,
        undefended: nn.Module | None = None,
        dataset: Dataset | None = None,
        name: str = "a defence",
        adversarial: bool = False,
        radii: Mapping[Norm, float] | None = None,
    ) -> None:
        self.adversarial, self.radii = adversarial, dict(radii or {})
        self.defence, self.undefended, self.dataset, self.name = defence, undefended, dataset, name
        self.shape = defence.purifier.shape
        self.digits = meant(self.shape, named(defence.class_names, defence.classes), defence.data)
        self.axes = self._heaviest()

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        known = self.dataset.classes if self.dataset is not None and self.defence.class_names is None else ()
        own = named(self.defence.class_names, self.defence.classes)
        return list(known if len(known) == self.defence.classes else own)

    def pick(self, index: int) -> tuple[Images, int | None]:
        """Image (1, C, H, W) and class, if it is known, `index` of the data set, counted round and round.

        Raises:
            DataError: if there is no data set.
        """
        if self.dataset is None:
            raise DataError("this demo has no images to pick from; draw or upload one")
        at, labels = index % len(self.dataset), self.dataset.labels
        return self.dataset[at].images, None if labels is None else int(labels[at])

    def attack(self, image: Images, name: str, norm: Norm, eps: float, aim: Aim, seed: int = 0) -> Images:
        """The image (1, C, H, W) under attack; its label is what the bare classifier says of it.

        Raises:
            DataError: if there is no such attack.
            ValueError: if the budget is not positive.
        """
        if name not in ATTACKS:
            raise DataError(f"no attack {name!r}; there are {', '.join(ATTACKS)}")
        if name == "none":
            return image
        function: Attack = attacks.annealed if name == "annealed" else attacks.ATTACKS[name]
        target: Classifier = self.defence.surrogate if aim == "defence" else self.defence.classifier
        options = ATTACKS[name][1]
        with torch.random.fork_rng(devices=[]), evaluating(self.defence):
            torch.manual_seed(seed)
            return function(target, image, self._label(image), Budget(norm, eps), generator=_source(seed), **options)

    def answers(self, image: Images) -> list[Answer]:
        """What the plain classifiers say of an image (1, C, H, W)."""
        models: Mapping[str, nn.Module | None] = {
            "undefended": self.undefended,
            "adversarially_trained": self.defence.classifier,
        }
        found = []
        for name, model in models.items():
            if model is not None:
                with torch.no_grad(), evaluating(model):
                    shares = query(model, image).softmax(1)[0]
                found.append(Answer(name, int(shares.argmax()), shares.tolist()))
        return found

    def elected(self, image: Images, seed: int = 0) -> Answer:
        """What CARSO says of an image (1, C, H, W), by its own aggregation; the mode stops early."""
        label, tally = self.defence.elect(image, "confident", seed)
        return Answer("carso", int(label), tally.shares[0].tolist())

    def vote(self, image: Images, seed: int = 0, whole: bool = False) -> Iterator[Round]:
        """CARSO's vote on an image (1, C, H, W), round by round, the first in parts of five, until it is decided.

        With `whole`, and where the mode does not decide, all candidates are counted, twenty by twenty.
        """
        defence, total = self.defence, self.defence.samples
        stop: Stop = "never" if whole or defence.aggregation != "mode" else "confident"
        step = 20 if stop == "never" else 5
        latents = defence.latents(generator=_source(seed))
        with torch.no_grad():
            codes = defence.codes(image)
        counts, seen = torch.zeros(1, defence.classes, dtype=torch.long), []
        looks = {end for _, end in rounds(total, stop)}
        for start, end in pairwise([0, *sorted(looks | set(range(step, min(looks), step)))]):
            candidates, logits = self._answered(latents[start:end], codes)
            counts = counts + count(logits).cpu()
            seen.append(logits)
            round_ = Round(counts[0].tolist(), end, False, candidates[0].cpu(), logits[0, :SHOWN].argmax(1).tolist())
            if end in looks and settled(counts, end, total, stop, defence.error):
                by_mode = defence.aggregation == "mode"
                elected = mode(counts) if by_mode else AGGREGATES[defence.aggregation](torch.cat(seen, 1)).argmax(1)
                believed = self._believes(image, elected, seed)
                yield replace(round_, decided=True, elected=int(elected), believed=believed)
                return
            yield round_

    def walk(self, image: Images, first: float, second: float) -> Images:
        """The recalled image (1, C, H, W) at z = first e_i + second e_j, with i and j the studio's axes."""
        latents = torch.zeros(1, self.defence.purifier.latent)
        latents[0, self.axes] = torch.tensor([first, second][: len(self.axes)])
        with torch.no_grad():
            return self._decode(latents, self.defence.codes(image))[:, 0]

    @torch.no_grad()
    def _heaviest(self) -> list[int]:
        """The two latents that change recalled images most, from one side to the other; most are left idle by KL."""
        purifier, chance = self.defence.purifier, _source(0)
        drawn = torch.rand(LOOKED_AT, *self.shape, generator=chance)
        codes = self.defence.codes(drawn if self.dataset is None else self.dataset[:LOOKED_AT].images)
        sides = FAR * torch.eye(purifier.latent, device=codes.device)
        moved = [self._decode(some, codes) - self._decode(-some, codes) for some in sides.split(at_a_time(purifier))]
        changes = torch.cat([each.abs().mean((0, 2, 3, 4)) for each in moved])
        heaviest: list[int] = changes.topk(min(2, purifier.latent)).indices.tolist()
        return heaviest

    def _believes(self, image: Images, elected: Labels, seed: int) -> bool | None:
        try:
            threshold_of(self.defence.calibration, FALSE_ALARMS)
        except CarsoError:
            return None
        return bool(self.defence.detect(image, FALSE_ALARMS, elected.to(image.device), _source(seed)).accepted)

    def _answered(self, latents: Latents, codes: Codes) -> tuple[Tensor, Tensor]:
        """The first candidates, and the logits of all, no more at a time than a vote of the defence has."""
        classifier, first, logits = self.defence.classifier, [], []
        for some in latents.split(at_a_time(self.defence.purifier)):
            candidates = self._decode(some, codes)
            first.append(candidates[:, :SHOWN].clone())
            with torch.no_grad(), evaluating(classifier):
                logits.append(classify(classifier, candidates))
        return torch.cat(first, 1)[:, :SHOWN], torch.cat(logits, 1)

    def _decode(self, latents: Tensor, codes: Tensor) -> Tensor:
        with torch.no_grad(), evaluating(self.defence.purifier):
            return recall(self.defence.purifier, latents, codes)

    def _label(self, image: Images) -> Labels:
        with torch.no_grad(), evaluating(self.defence.classifier):
            return query(self.defence.classifier, image).argmax(1)


def _source(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
