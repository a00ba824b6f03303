from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.attacks.estimate import Estimate, spsa
from carso.attacks.gradient import input_gradient
from carso.attacks.losses import margin
from carso.attacks.noise import noise
from carso.types import Budget

Batch = tuple[Tensor, Tensor]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_estimate_of_a_linear_loss_is_unbiased() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    images, labels = 0.4 + 0.2 * torch.rand(2, 1, 2, 3), torch.tensor([0, 1])
    objective = Estimate(model, margin, directions=4000, generator=seeded())
    _, gradient, _ = objective(images, labels)
    assert torch.allclose(gradient, input_gradient(model, images, labels, margin), atol=0.1)


def test_the_estimate_points_along_the_gradient_of_a_network(network: nn.Module, batch: Batch) -> None:
    images, labels = batch[0][:50].clamp(0.05, 0.95), batch[1][:50]
    _, estimated, _ = Estimate(network, margin, directions=128, generator=seeded())(images, labels)
    true = input_gradient(network, images, labels, margin)
    assert torch.cosine_similarity(estimated.flatten(1), true.flatten(1)).mean() > 0.6


def test_it_breaks_a_model_without_gradient_and_the_seed_decides(network: nn.Module, batch: Batch) -> None:
    images, labels = batch[0][:40], batch[1][:40]

    def scores(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = network((images * 15).round() / 15)
        return logits

    budget = Budget("Linf", 0.15)
    few: dict[str, Any] = {"steps": 1, "directions": 2}
    first, second, other = (spsa(scores, images, labels, budget, **few, generator=seeded(s)) for s in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    found = spsa(scores, images, labels, budget, steps=25, directions=24, generator=seeded())
    loud = noise(scores, images, labels, budget, draws=20, generator=seeded())
    left, noisy = (int((scores(x).argmax(1) == labels).sum()) for x in (found, loud))
    assert left < 0.75 * noisy, (left, noisy)


@pytest.mark.parametrize("options", [{"steps": 0}, {"directions": 0}, {"delta": 0.0}, {"restarts": 0}])
def test_nonsense_is_refused(options: dict[str, Any], network: nn.Module, batch: Batch) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(options))} must be "):
        spsa(network, *batch, Budget("Linf", 0.1), **options)
