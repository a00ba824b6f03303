"""A generative rival in training, as a stage of `carso.training.loop`.

    min over theta of E L_theta(x, y)        x: clean training images, y: their labels, where the rival needs them

Classifiers among the rivals are trained by `carso.training.classifier`, of whose stage theirs are kinds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from carso.data import Dataset
from carso.nn import evaluating
from carso.processes.dealing import drawn
from carso.training.device import placed
from carso.training.recipe import Schedule
from carso.training.together import as_whole
from carso.types import Images, Labels


class GenerativeStage(ABC):
    """One network that learns from images.

    Args:
        name: of the stage, in progress, history and checkpoints.
        module: the network to train.
        schedule: how.
        train: images, with labels where the rival needs them.
        validation: held-out images, for the history only.
        device: where to train.
    """

    passes = 1
    """Optimiser steps per batch."""

    def __init__(
        self,
        name: str,
        module: nn.Module,
        schedule: Schedule,
        train: Dataset,
        validation: Dataset,
        device: torch.device,
    ) -> None:
        self.name = name
        self.module = placed(module, device)
        self.schedule = schedule
        self.device = device
        self.train, self.held_out = train.to(device), validation.to(device)

    @property
    def size(self) -> int:
        """How many images an epoch goes through."""
        return len(self.train)

    @abstractmethod
    def objective(self, images: Images, labels: Labels | None) -> Tensor:
        """L of a batch (B, C, H, W) and its labels (B,), scalar."""

    def loss(self, images: Images, indices: Tensor, part: int) -> Tensor:
        """L of the batch."""
        with as_whole():
            return self.objective(images, None if self.train.labels is None else self.train.labels[indices])

    def begin(self, epoch: int) -> None:  # noqa: B027
        """Nothing changes from epoch to epoch."""

    def validate(self) -> dict[str, float]:
        """L on the held-out images."""
        labels, total = self.held_out.labels, 0.0
        with torch.no_grad(), evaluating(self.module):
            for rows, images in self.held_out.chunks():
                loss = self.objective(images, None if labels is None else labels[rows])
                total += loss.item() * len(images)
        return {"validation_loss": total / len(self.held_out)}


def noise(like: Tensor) -> Tensor:
    """Draws from N(0, I) for a batch, of its shape and dtype; in training, its rows of a draw for the whole batch."""
    return drawn(lambda rows: torch.randn(rows, *like.shape[1:], dtype=like.dtype, device=like.device), len(like))
