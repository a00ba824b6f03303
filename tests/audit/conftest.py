"""Classifiers to audit, and efforts of the size of a test."""

from __future__ import annotations

import pytest
import torch
from tests.audit.audits import EPS
from tests.efforts import resize
from torch import Tensor, nn
from torch.nn import functional as F

from carso.attacks import pgd
from carso.audit import audit
from carso.audit.results import BudgetResult
from carso.data import Dataset
from carso.nn import MLP
from carso.types import Budget

SIDE = 12


def blobs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ten classes of grey patches on black, 12 x 12, as digits are: most pixels exactly 0."""
    patterns = (2 * torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0)) - 1).clamp_min(0)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    shades = 0.4 + 0.5 * torch.rand(count, 1, SIDE, SIDE, generator=generator)
    noise = 0.3 * torch.rand(count, 1, SIDE, SIDE, generator=generator) - 0.2
    return (F.interpolate(patterns[labels], scale_factor=3) * shades + noise).clamp(0, 1), labels


def fitted(model: nn.Module, epochs: int = 6, adversary: Budget | None = None) -> nn.Module:
    images, labels = blobs(1500, seed=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.005)
    for batch in torch.arange(1500).split(50) * epochs:
        x, y = images[batch], labels[batch]
        if adversary is not None:
            x = pgd(model.eval(), x, y, adversary, steps=8)
        optimiser.zero_grad()
        F.cross_entropy(model.train()(x), y).backward()
        optimiser.step()
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def plain() -> nn.Module:
    torch.manual_seed(0)
    return fitted(MLP((1, SIDE, SIDE), hidden=(60, 40)))


@pytest.fixture(scope="session")
def other() -> nn.Module:
    """Trained apart from `plain`, for transfers."""
    torch.manual_seed(1)
    return fitted(MLP((1, SIDE, SIDE), hidden=(50, 30)))


@pytest.fixture(scope="session")
def robust() -> nn.Module:
    torch.manual_seed(0)
    return fitted(MLP((1, SIDE, SIDE), hidden=(60, 40)), epochs=8, adversary=Budget("Linf", EPS))


@pytest.fixture(scope="session")
def mish() -> nn.Module:
    """The published code's output: Mish and LogSoftmax on the logits."""
    torch.manual_seed(0)
    return fitted(MLP((1, SIDE, SIDE), hidden=(60, 40), output="mish-log-softmax"), epochs=12)


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    images, labels = blobs(60, seed=2)
    return Dataset("blobs", images, labels, tuple("0123456789"))


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Efforts cut down to the size of these images."""
    cut_down(monkeypatch)


def cut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    resize(
        monkeypatch,
        "quick",
        n=60,
        tuning=30,
        steps=(25, 50),
        restarts=(2, 6),
        other=(1, 1),
        unbounded=50,
        plain=20,
        queries=150,
        spsa=(10, 12),
        spsa_images=30,
    )


@pytest.fixture(scope="session")
def robust_found(robust: nn.Module, dataset: Dataset) -> BudgetResult:
    """What an audit finds of `robust`."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        cut_down(monkeypatch)
        return audit(robust, dataset, effort="quick", eps=(EPS,)).budgets[0]
