"""Stage 1: training the classifier N, clean or adversarially.

    min over theta of E max over x' in B(x, eps) of CE(N_theta(x'), y)
    TRADES: E CE(N_theta(x), y) + beta max over x' of KL(N_theta(x) || N_theta(x'))

The inner maximum is taken by the recipe's attacks, made anew for every batch against the current weights in eval mode
(iterative adversarial training).

Sources: thesis, section 3.2.3; A. Madry et al., Towards deep learning models resistant to adversarial attacks, ICLR
2018; H. Zhang et al., Theoretically principled trade-off between robustness and accuracy, ICML 2019.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carso.data import Dataset
from carso.fast import convolves, faster, low_precision
from carso.nn import evaluating, query
from carso.processes.group import shared
from carso.training.augment import moved
from carso.training.device import lowered, placed_around
from carso.training.mixture import Mixture
from carso.training.optimise import risen
from carso.training.recipe import ClassifierTraining
from carso.training.together import as_whole
from carso.types import Classifier, Images, Labels, Logits

PART = 500
"""Held-out images that one process answers at a time."""


class ClassifierStage:
    """N in training.

    Args:
        name: of the stage, in progress, history and checkpoints.
        classifier: the module to train.
        schedule: its recipe, attacks included.
        train: labelled images.
        validation: held-out labelled images, for the history only.
        device: where to train.
    """

    def __init__(
        self,
        name: str,
        classifier: nn.Module,
        schedule: ClassifierTraining,
        train: Dataset,
        validation: Dataset,
        device: torch.device,
    ) -> None:
        self.name = name
        placed_around(classifier, device, train[:2].images)
        self.module = classifier
        self.schedule = schedule
        self.device = device
        self.mixture = Mixture(schedule.attacks, schedule.clean and not schedule.trades)
        self.scale = torch.ones((), device=device, dtype=torch.float32)
        self.train, self.labels = train.to(device), train.required_labels.to(device)
        self.held_out = validation.to(device)
        self.folds = False
        self.convolves = convolves(classifier)

    @property
    def size(self) -> int:
        """How many images an epoch goes through."""
        return len(self.train)

    @property
    def passes(self) -> int:
        """Optimiser steps per batch."""
        return self.mixture.parts if self.schedule.mixing == "steps" else 1

    def loss(self, images: Images, indices: Tensor, part: int) -> Tensor:
        """Mean cross-entropy over the batch, clean and attacked, or the loss of TRADES."""
        labels = self.labels[indices]
        images = moved(images, self.schedule.crop, self.schedule.flip)
        if self.schedule.trades:
            return self._trades(images, labels)
        with evaluating(self.module):
            if self.schedule.mixing == "steps":
                images = self.mixture.part(part, self._target(), images, labels, scale=self.scale)
            else:
                images = self.mixture.mix(self._target(), images, labels, scale=self.scale)
        return F.cross_entropy(self._logits(images), labels)

    def _target(self) -> Classifier:
        """N as attacks take it."""
        return faster(self.module) if self.folds else lowered(self.module, self.device)

    def _trades(self, images: Images, labels: Labels) -> Tensor:
        rows = torch.arange(len(images), device=images.device)

        def from_reference(logits: Tensor, rows: Tensor) -> Tensor:
            return divergence(reference[rows], logits)

        with evaluating(self.module):
            with torch.no_grad():
                reference = self._logits(images).log_softmax(1)
            attacked = self.mixture.mix(self._target(), images, rows, scale=self.scale, loss=from_reference)
        clean, moved_away = self._logits(torch.cat([images, attacked])).chunk(2)
        return trades(clean, moved_away, labels, self.schedule.trades)

    def _logits(self, images: Images) -> Logits:
        with self._precision(), as_whole():
            return query(self.module, images).float()

    def _precision(self) -> AbstractContextManager[object]:
        """Bfloat16 products, where those are faster, for a network with convolutions."""
        return low_precision(self.device) if self.convolves else nullcontext()

    def begin(self, epoch: int) -> None:
        """Set the scale of the attacks' radii, which grow linearly over the ramp, and compare N with its fold."""
        self.scale.fill_(risen(epoch, self.schedule.ramp, self.schedule.epochs))
        with evaluating(self.module):
            folds = not self.convolves and faster(self.module, self.train[:2].images) is not self.module
        self.folds = folds and bool(self.mixture.attacks)

    def validate(self) -> dict[str, float]:
        """Clean accuracy (%) on the held-out images."""
        labels = self.held_out.required_labels

        def right(rows: slice) -> int:
            (images,) = self.held_out.batches([rows])
            return int((query(self.module, images).argmax(1) == labels[rows]).sum())

        with torch.no_grad(), evaluating(self.module):
            correct = sum(shared(self.held_out.spans(PART), right))
        return {"validation_accuracy": 100 * correct / len(self.held_out)}


def trades(clean: Logits, attacked: Logits, labels: Labels, beta: float) -> Tensor:
    """The loss of TRADES: CE(p, y) + beta KL(p || q), in the mean, of logits (B, classes)."""
    return F.cross_entropy(clean, labels) + beta * divergence(clean.log_softmax(1), attacked).mean()


def divergence(reference: Logits, logits: Logits) -> Tensor:
    """KL(p || q) per image (B,): p of log-probabilities `reference` (B, classes), q of `logits`."""
    return F.kl_div(logits.log_softmax(1), reference, reduction="none", log_target=True).sum(1)
