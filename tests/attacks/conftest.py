"""A classifier with something to lose: the thesis's layers, fitted to noisy blobs on a black background."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carso.nn import MLP


def blobs(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ten classes of grey patches on black, 12 x 12, as digits are: most pixels exactly 0."""
    patterns = (2 * torch.rand(10, 1, 4, 4, generator=torch.Generator().manual_seed(0)) - 1).clamp_min(0)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (count,), generator=generator)
    shades = 0.2 + 0.5 * torch.rand(count, 1, 12, 12, generator=generator)
    noise = 0.3 * torch.rand(count, 1, 12, 12, generator=generator) - 0.2
    return (F.interpolate(patterns[labels], scale_factor=3) * shades + noise).clamp(0, 1), labels


def switched_by(needed: int) -> Callable[[Tensor], Tensor]:
    """Class 1 where so many pixels of a dark image are above a half; rounded, with the gradient of the identity."""

    def logits(images: Tensor) -> Tensor:
        on = images + (images.round() - images).detach()
        count = on.flatten(1).sum(1)
        return torch.stack([needed - 0.5 - count, count - needed + 0.5], 1)

    return logits


@pytest.fixture(scope="session")
def network() -> nn.Module:
    torch.manual_seed(0)
    model = MLP((1, 12, 12), hidden=(40, 30))
    images, labels = blobs(1000, seed=1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for batch in torch.arange(1000).split(50) * 3:
        optimiser.zero_grad()
        F.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimiser.step()
    model.zero_grad()
    return model.eval()


@pytest.fixture(scope="session")
def batch(network: nn.Module) -> tuple[Tensor, Tensor]:
    """200 images and their labels, a few of them misclassified."""
    images, labels = blobs(200, seed=2)
    wrong = network(images).argmax(1) != labels
    labels[:5] = (labels[:5] + 1) % 10
    assert wrong.float().mean() < 0.1
    return images, labels
