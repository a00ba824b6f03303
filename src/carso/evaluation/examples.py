"""The attacked images of a row.

DeepFool looks for the nearest boundary before any budget is applied, so its rows, which differ in eps alone, share one
search per model and chunk, with random streams of its own.

A defence whose latents are fixed is attacked through fresh picks among them in every call, as one of fresh latents is
through fresh ones, and no attack rests on what a few of them answer: the vote is of them all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor, nn

from carso.attacks import ATTACKS, spatial
from carso.attacks.deepfool import minimal_perturbation, perturb
from carso.attacks.eot import mean_log_probability
from carso.corruptions import corrupt
from carso.defence import CARSO
from carso.evaluation.models import Defence, Followed, Model, exposure
from carso.evaluation.protocol import Row
from carso.evaluation.queries import attackable, checked_query
from carso.evaluation.seeding import generator_of, seeded
from carso.fast import faster
from carso.types import Budget, Classifier, Images, Labels, Latents, Logits, Severity

KEPT = 2**30
"""Bytes of images that are kept for further evaluations, at most."""


class AdversarialExamples:
    """Crafts the images of one row after another, with random streams that depend on seed, row and place only."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._searched: dict[Hashable, Tensor] = {}

    def __call__(self, row: Row, model: Model, images: Images, labels: Labels, start: int) -> Images:
        """Attacked images (B, C, H, W) of the chunk that begins at image `start`, as the row says.

        Args:
            row: the attack.
            model: what it gets to see, as `exposed` tells; a defence is differentiated through its surrogate.
            images: clean images.
            labels: their true classes (B,).
            start: place of the chunk in the data set.
        """
        if row.budget is None:
            return images
        if isinstance(row.budget, Severity):
            return self._corrupted(row, row.budget, model, images, labels, start)
        if row.attack not in ATTACKS:
            raise ValueError(f"no attack {row.attack!r}; there are {', '.join(ATTACKS)}")
        if row.attack == "deepfool":
            return perturb(images, self._search(row, row.budget, model, images, labels, start), row.budget)
        self._searched.clear()
        generator = generator_of(self.seed, row.key, "attack", start)
        return ATTACKS[row.attack](
            self._surface(row, model, images, self._latents(row, start)),
            images,
            labels,
            row.budget,
            generator=generator,
            **row.options,
        )

    def _corrupted(
        self, row: Row, severity: Severity, model: Model, images: Images, labels: Labels, start: int
    ) -> Images:
        if row.attack == "spatial":
            surface = self._surface(row, model, images, self._latents(row, start))
            return spatial(surface, images, labels, severity, **row.options)
        return corrupt(images, row.attack, severity.level, generator_of(self.seed, row.key, "attack", start))

    def _latents(self, row: Row, start: int) -> Generator:
        return generator_of(self.seed, row.key, "latents", start)

    def _surface(self, row: Row, model: Model, images: Images, generator: Generator) -> Classifier:
        """What an attack differentiates; a defence's latents are drawn by the generator."""
        if isinstance(model, Followed):
            return replace(model, samples=row.eot)
        if not isinstance(model, Defence):
            return attackable(model, images)
        quick = faster(model, images)
        if isinstance(model, CARSO) and model.fixed_by is not None:
            return _Picking(quick, model, row.eot, generator)
        return partial(checked_query, quick.surrogate, samples=row.eot, generator=generator)

    def _search(self, row: Row, budget: Budget, model: Model, images: Images, labels: Labels, start: int) -> Tensor:
        whole = model.column if isinstance(model, Followed) else model
        seen = exposure(model) if isinstance(whole, nn.Module) else model
        names = (row.attack, budget.norm, row.eot, sorted(row.options.items()), start)
        key = (seen, str(names), _digest(images, labels))
        if key not in self._searched:
            with seeded(self.seed, *names) as generator:
                surface = self._surface(row, model, images, generator)
                self._searched[key] = minimal_perturbation(surface, images, labels, budget.norm, **row.options)
        return self._searched[key]


@dataclass(frozen=True)
class _Picking:
    """The surrogate of a defence on fresh picks among latents that it has fixed.

    Args:
        quick: its `logits(images, latents=z)`, differentiable.
        defence: whose latents are picked.
        samples: how many are picked for each call.
        generator: of the picks.
    """

    varies: ClassVar[bool] = True
    quick: Any
    defence: CARSO
    samples: int
    generator: Generator

    def __call__(self, images: Images) -> Logits:
        latents = drawn(self.defence, self.samples, self.generator)
        return mean_log_probability(checked_query(self.quick.logits, images, latents=latents))


def drawn(defence: CARSO, samples: int, generator: Generator | None = None) -> Latents:
    """K latents that an attacker averages over: fresh ones, or fresh picks among those that the defence votes by."""
    if defence.fixed_by is None:
        return defence.latents(samples, generator)
    known = defence.latents()
    return known[torch.randperm(len(known), generator=generator)[:samples].to(known.device)]


class SharedExamples(AdversarialExamples):
    """Those of several evaluations: what was crafted on a model is handed out again for its equal, however it votes.

    Images that random streams of another seed, row or place would have made are never taken for them.
    """

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self._crafted: dict[Hashable, Images] = {}

    def __call__(self, row: Row, model: Model, images: Images, labels: Labels, start: int) -> Images:
        """As `AdversarialExamples`."""
        key = (row.key, exposure(model), start, _digest(images, labels))
        if key not in self._crafted:
            crafted = super().__call__(row, model, images, labels, start)
            if not self._fits(crafted):
                return crafted
            self._crafted[key] = crafted
        return self._crafted[key]

    def _fits(self, images: Images) -> bool:
        return sum(kept.nbytes for kept in (*self._crafted.values(), images)) <= KEPT


def _digest(images: Images, labels: Labels) -> bytes:
    return hashlib.sha256(images.cpu().numpy().tobytes() + labels.cpu().numpy().tobytes()).digest()
