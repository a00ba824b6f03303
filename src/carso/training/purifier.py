"""Stage 2: teaching the purifier to recall clean images from the frozen classifier's representation.

    min over phi of E [ BCE(D(z, c), x) + beta KL(q(z | x', c) || N(0, I)) + w CE(N(D(z', c)), y) ]

with x' clean or attacked, c = R(r(x')), z ~ q, z' ~ N(0, I), beta 1 (or warmed up) and w 0 in the thesis. No class
label is needed: by default the attacks move away from N's own prediction on the clean image, and y is that
prediction. A recipe may put the squared error in the place of BCE, and in the place of the cross-entropy

    CE(N(x^), y) + trades KL(N(x^) || N(x^')),    x^ = D(z', R(r(x))), x^' = D(z', R(r(x'))),

which holds what is recalled of the attacked image to what is recalled of the clean one.

Sources: thesis, section 3.2.3; the divergence: H. Zhang et al., Theoretically principled trade-off between robustness
and accuracy, ICML 2019; w and attacks directed at the whole defence are ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor

from carso.data.dataset import CHUNK, Dataset
from carso.errors import RecipeError
from carso.fast import convolves, faster, low_precision
from carso.nn import evaluating, query
from carso.nn.modes import frozen
from carso.nn.querying import answers
from carso.processes.dealing import among_all, deal_of, dealing, drawn
from carso.processes.group import sum_over
from carso.progress import progress
from carso.purifier import RECONSTRUCTION, Purifier, kl_divergence
from carso.representation import Representation
from carso.storage.weights import digest
from carso.training.augment import moved
from carso.training.classifier import trades
from carso.training.device import lowered, placed_around
from carso.training.loop import beginning
from carso.training.mixture import Mixture
from carso.training.optimise import risen
from carso.training.recipe import PurifierTraining
from carso.training.together import as_whole
from carso.types import CandidateLogits, Classifier, Codes, Images, Labels, Latents, Logits, Representations

NEURONS = 2**24
"""Numbers of representations at a time, at most."""

REPRESENTATIONS_KEPT = 2**30
"""Bytes of representations kept rather than computed anew in every epoch, at most."""

Shared: TypeAlias = dict[str, Tensor]

ATTACKED_KEPT = 2**32
"""Bytes of attacked images that are kept, at most."""


def kept_bytes(schedule: PurifierTraining, train: Dataset, neurons: int) -> int:
    """What the stage keeps of training images, beside them: attacked versions in float16, and representations."""
    if schedule.feed == "fresh" or not schedule.attacks:
        return 0
    versions = len(schedule.attacks) + 1
    represented = 4 * versions * len(train) * neurons
    attacked = 2 * (versions - 1) * len(train) * math.prod(train.shape)
    return attacked + (represented if represented <= REPRESENTATIONS_KEPT else 0)


class PurifierStage:
    """The purifier in training, before its frozen classifier.

    Args:
        name: of the stage, in progress, history and checkpoints.
        representation: of the frozen classifier.
        purifier: the module to train.
        schedule: its recipe, attacks included.
        train: images; their labels are used only if the recipe says so.
        validation: held-out images, for the history only.
        seed: of what is drawn once: attacks that are kept, and images that are drawn anew whenever they are read.
        device: where to train.
        pairs: attacked versions of the training images, for `feed: pairs`.
        shared: where attacked images are looked for before they are made, and left for another stage with the same N.
    """

    def __init__(
        self,
        name: str,
        representation: Representation,
        purifier: Purifier,
        schedule: PurifierTraining,
        train: Dataset,
        validation: Dataset,
        seed: int,
        device: torch.device,
        pairs: Images | None = None,
        shared: Shared | None = None,
    ) -> None:
        self.name = name
        self.module = purifier
        self.representation = representation
        self.classifier = representation.classifier
        placed_around(self.classifier, device, train[:2].images, purifier)
        self.convolves = convolves(self.classifier)
        self.lowered = lowered(self.classifier, device)
        self.schedule = schedule
        self.reconstruction_loss = RECONSTRUCTION[schedule.reconstruction]
        self.device = device
        self.chunk = max(1, min(CHUNK, NEURONS // purifier.neurons))
        self.mixture = Mixture(schedule.attacks, schedule.clean)
        self.train = train.to(device)
        self.labels = self._labels(train, seed)
        self.held_out = validation.to(device)
        self.kept = self._kept(seed, pairs, {} if shared is None else shared)
        self.represented = self._represented(seed)
        self.beta = torch.ones((), device=device, dtype=torch.float32)
        self.scale = torch.ones((), device=device, dtype=torch.float32)

    @property
    def size(self) -> int:
        """How many images an epoch goes through."""
        return len(self.train)

    @property
    def parts(self) -> int:
        """Of a batch: the clean ones, and one of each attack."""
        return self.schedule.clean + (len(self.mixture.attacks) if self.kept is None else len(self.kept))

    @property
    def passes(self) -> int:
        """Optimiser steps per batch."""
        return self.parts if self.schedule.mixing == "steps" else 1

    def loss(self, clean: Images, indices: Tensor, part: int) -> Tensor:
        """Negative ELBO of the batch, clean and attacked, with the consistency term if the recipe has one."""
        clean, labels = moved(clean, self.schedule.crop, self.schedule.flip), self.labels[indices]
        seen, representations = self._seen(indices, clean, labels, part)
        with low_precision(self.device), as_whole():
            codes = self.module.compress(representations)
            reconstructions, mean, log_variance = self.module.reconstruct(seen, codes)
        lost = self.reconstruction_loss(reconstructions, self.module.target(clean))
        elbo = lost + self.beta * kl_divergence(mean, log_variance)
        if not self.schedule.consistency:
            return elbo.mean()
        return elbo.mean() + self.schedule.consistency * self._inconsistency(codes, clean, labels)

    def begin(self, epoch: int) -> None:
        """Set beta, the weight of the KL term, and the scale of the attacks' radii, which rise linearly."""
        schedule = self.schedule
        since = epoch - round(schedule.kl_lag * schedule.epochs)
        self.beta.fill_(schedule.kl_weight * risen(since, schedule.kl_warmup, schedule.epochs))
        self.scale.fill_(risen(epoch, schedule.ramp, schedule.epochs))

    def validate(self) -> dict[str, float]:
        """Negative ELBO (nats) on the held-out clean images."""
        with torch.no_grad(), evaluating(self.module):
            losses = []
            for _, clean in self.held_out.chunks(self.chunk):
                reconstructions, mean, log_variance = self.module(clean, self.representation(clean)[1])
                lost = self.reconstruction_loss(reconstructions, self.module.target(clean))
                losses.append(lost + kl_divergence(mean, log_variance))
        return {"validation_loss": torch.cat(losses).mean().item()}

    def attackable(self) -> Classifier:
        """The defence as attacks in training see it: N's logits on one recalled sample per image, fresh latents."""
        quick = faster(self)

        def one_each(images: Images) -> Logits:
            latents = self._latents(len(images)).unsqueeze(1)
            return quick.logits(_some(images), latents=_some(latents))[: len(images)].squeeze(1)

        return one_each

    @property
    def purifier(self) -> Purifier:
        """The module in training."""
        return self.module

    def logits(self, images: Images, *, latents: Tensor) -> CandidateLogits:
        """N's logits (B, 1, classes) on one candidate per image, of its own latent (B, 1, latent)."""
        _, representations = self.representation(images)
        with evaluating(self.module), evaluating(self.classifier):
            codes = self.module.compress(representations)
            logits = query(self.classifier, self.module.decode(latents.squeeze(1), codes))
        return logits.unsqueeze(1)

    def latents(self, samples: int | None = None, generator: torch.Generator | None = None) -> Latents:
        """Fresh z (K, latent)."""
        shape = (samples or 1, self.module.latent)
        return torch.randn(shape, generator=generator, device=self.device, dtype=torch.float32)

    def _latents(self, n: int) -> Latents:
        like: Any = {"device": self.device, "dtype": torch.float32}
        return drawn(lambda rows: torch.randn(rows, self.module.latent, **like), n)

    def _inconsistency(self, codes: Codes, clean: Images, labels: Labels) -> Tensor:
        """The cross-entropy of N on a recalled sample, or what the recipe puts in its place."""
        latents = self._latents(len(codes))
        seen = self._recalled(codes, latents)
        if not self.schedule.trades:
            return F.cross_entropy(seen, labels)
        _, representations = self._with_representations(clean)
        with low_precision(self.device), as_whole():
            codes = self.module.compress(representations)
        return trades(self._recalled(codes, latents), seen, labels, self.schedule.trades)

    def _recalled(self, codes: Codes, latents: Latents) -> Logits:
        """N's logits on one candidate of each code."""
        with low_precision(self.device), as_whole(), evaluating(self.classifier), frozen(self.classifier):
            return query(self.classifier, self.module.decode(latents, codes)).float()

    def _seen(self, indices: Tensor, clean: Images, labels: Labels, part: int) -> tuple[Images, Representations]:
        """The batch's versions of its images, and what N makes of them."""
        if self.kept is None:
            return self._with_representations(self._attacked(clean, labels, part))
        deal = deal_of(len(indices))
        which = deal.rows(torch.arange(deal.size, device=self.device) * self.parts // deal.size)
        which = torch.full_like(which, part) if self.schedule.mixing == "steps" else which
        which = (which - self.schedule.clean + 1).clamp(min=0)
        seen = self._version(which, indices, clean)
        return (
            self._with_representations(seen) if self.represented is None else (seen, self.represented[which, indices])
        )

    def _attacked(self, clean: Images, labels: Labels, part: int) -> Images:
        defence = self.attackable() if self.mixture.needs_defence else None
        with evaluating(self.classifier):
            if self.schedule.mixing == "steps":
                return self.mixture.part(part, self.lowered, clean, labels, defence, self.scale)
            return self.mixture.mix(self.lowered, clean, labels, defence, self.scale)

    def _version(self, which: Tensor, indices: Tensor, clean: Images) -> Images:
        """Image i as it is where `which` is 0, else attacked by kept attack `which` - 1."""
        assert self.kept is not None
        attacked = self.kept[(which - 1).clamp(min=0), indices].to(clean.dtype)
        return torch.where((which == 0).view(-1, 1, 1, 1), clean, attacked)

    def _with_representations(self, seen: Images) -> tuple[Images, Representations]:
        with torch.no_grad(), low_precision(self.device) if self.convolves else nullcontext():
            return seen, self.representation(seen)[1].float()

    def _represented(self, seed: int) -> Tensor | None:
        """r of every version of every image (versions, images, neurons), if N sees the same ones in every epoch."""
        versions = 0 if self.kept is None else len(self.kept) + 1
        if not versions or 4 * versions * self.size * self.module.neurons > REPRESENTATIONS_KEPT:
            return None
        shape = (versions, self.size, self.module.neurons)
        represented = torch.zeros(shape, device=self.device, dtype=torch.float32)
        everything = torch.arange(self.size, device=self.device)
        with beginning(seed, self.name, "representations"):
            for part, span, clean in self._parts(versions, "representations of the training images"):
                with dealing(among_all(len(clean))) as deal:
                    rows = deal.rows(everything[span])
                    seen = self._version(torch.full_like(rows, part), rows, deal.rows(clean))
                    represented[part, rows] = self._with_representations(seen)[1]
                sum_over([represented[part, span]])
        return represented

    def _labels(self, train: Dataset, seed: int) -> Labels:
        if self.schedule.labels == "true":
            return train.required_labels.to(self.device)
        with beginning(seed, self.name, "labels"):
            return answers(self.classifier, (some for _, some in self.train.chunks(self.chunk)))

    def _kept(self, seed: int, pairs: Images | None, shared: Shared) -> Tensor | None:
        if self.schedule.feed == "pairs" and pairs is not None:
            return pairs.to(self.device).unsqueeze(0)
        if self.schedule.feed != "cached" or not self.mixture.attacks:
            return None
        made_of = (self.name, self.schedule.attacks, self.schedule.clean, self.train.name, self.size, seed)
        key = repr((made_of, digest(self.classifier), self.schedule.labels))
        if key not in shared:
            shared.clear()
            shared[key] = self._made(seed)
        return shared[key]

    def _made(self, seed: int) -> Tensor:
        """All training images under each attack (attacks, images, C, H, W) in float16."""
        shape = (len(self.mixture.attacks), self.size, *self.train.shape)
        check_kept(self.name, self.schedule, self.train)
        kept = torch.zeros(shape, dtype=torch.float16, device=self.device)
        everything = torch.arange(self.size, device=self.device)
        with beginning(seed, self.name, "attacks"), evaluating(self.classifier):
            for i, span, clean in self._parts(len(kept), "attacks on the training images"):
                with dealing(among_all(len(clean))) as deal:
                    rows, which = deal.rows(everything[span]), self.schedule.clean + i
                    attacked = self.mixture.part(which, self.lowered, deal.rows(clean), self.labels[rows])
                    kept[i, rows] = attacked.to(kept.dtype)
                sum_over([kept[i, span]])
        return kept

    def _parts(self, count: int, what: str) -> Iterator[tuple[int, slice, Images]]:
        """So many times all images, bit by bit: which time it is, where they lie, and the images."""
        with progress(f"{self.name}, {what}", count * len(self.train.spans(self.chunk))) as bar:
            for i in range(count):
                for rows, clean in self.train.chunks(self.chunk):
                    yield i, rows, clean
                    bar.advance()


def _some(rows: Tensor) -> Tensor:
    """The rows, or one of zeros where a share of a batch has none: not every form of a network takes none."""
    return rows if len(rows) else torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])


def check_kept(name: str, schedule: PurifierTraining, train: Dataset) -> None:
    """Raise a RecipeError if the attacked images of a stage that keeps them are more than fit."""
    size = 2 * len(schedule.attacks) * len(train) * math.prod(train.shape)
    if size > ATTACKED_KEPT:
        raise RecipeError(
            f"{name}: attacked once and kept, the training images would take {size / 1e9:.1f} GB, more than the "
            f"{ATTACKED_KEPT / 1e9:.1f} that are kept; set feed: fresh in the recipe"
        )
