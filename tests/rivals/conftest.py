"""Images of three classes that a test can learn in a second, and a classifier of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carso.data import Dataset
from carso.nn import MLP
from carso.training.classifier import ClassifierStage
from carso.training.loop import beginning, fit
from carso.training.recipe import ClassifierTraining, Schedule

SHAPE, CLASSES = (1, 8, 8), 3
CPU = torch.device("cpu")


def bars(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """A bright bar in the upper, middle or lower part of a dark image, by its class, and noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    images = 0.2 * torch.rand(count, *SHAPE, generator=generator)
    rows = torch.stack([1 + 2 * labels, 2 + 2 * labels], 1)
    shades = 0.6 + 0.2 * torch.rand(count, 1, generator=generator)
    images[torch.arange(count).unsqueeze(1), 0, rows] += shades.unsqueeze(2)
    return images.clamp(0, 1), labels


def dataset(count: int = 512, seed: int = 1) -> Dataset:
    return Dataset("bars", *bars(count, seed), tuple("abc"))


def schedule(epochs: int = 10, rate: float = 0.01, **options: object) -> Schedule:
    return Schedule(epochs=epochs, batch=64, rate=rate, **options)


def accuracy(model: nn.Module, seed: int = 2) -> float:
    images, labels = bars(256, seed)
    return float((model(images).argmax(1) == labels).float().mean())


@pytest.fixture(scope="session")
def classifier() -> nn.Module:
    with beginning(0, "classifier"):
        network = MLP(SHAPE, (32,), CLASSES)
    training = ClassifierTraining(epochs=5, batch=64, rate=0.02)
    fit(ClassifierStage("n", network, training, dataset(), dataset(64, 3), CPU), 0, "f")
    return network.eval().requires_grad_(False)
