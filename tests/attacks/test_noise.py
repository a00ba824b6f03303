from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carso.attacks.losses import margin
from carso.attacks.noise import noise
from carso.audit.target import Known
from carso.types import Budget

Batch = tuple[Tensor, Tensor]
GREY = torch.full((20, 1, 6, 6), 0.5)
LABELS = torch.zeros(20, dtype=torch.long)


def test_linf_goes_to_the_corners(network: nn.Module) -> None:
    found = noise(lambda x: x.flatten(1), GREY, LABELS, Budget("Linf", 0.2))
    assert torch.allclose((found - GREY).abs(), torch.full_like(GREY, 0.2))
    assert (found > GREY).float().mean().item() == pytest.approx(0.5, abs=0.1)


def test_l2_goes_to_the_surface() -> None:
    found = noise(lambda x: x.flatten(1), GREY, LABELS, Budget("L2", 0.8))
    assert torch.allclose((found - GREY).flatten(1).norm(dim=1), torch.full((20,), 0.8), atol=1e-4)


def test_more_draws_fool_no_fewer(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    left = []
    for draws in (1, 20):
        found = noise(
            network, images, labels, Budget("Linf", 0.35), draws=draws, generator=torch.Generator().manual_seed(0)
        )
        left.append(int((network(found).argmax(1) == labels).sum()))
    assert left[1] < left[0]


def test_of_what_is_never_fooled_for_good_the_largest_margin_is_kept(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    margins = []
    for varies in (False, True):
        scores = Known(network, None, varies)
        generator = torch.Generator().manual_seed(0)
        found = noise(scores, images, labels, Budget("Linf", 0.35), draws=20, generator=generator)
        margins.append(margin(network(found), labels))
    rests, goes_on = margins
    assert (rests > 0).any()
    assert goes_on[rests > 0].mean() > rests[rests > 0].mean()
    assert ((goes_on > 0) >= (rests > 0)).float().mean() > 0.9


def test_the_seed_decides(network: nn.Module, batch: Batch) -> None:
    a, b, c = (
        noise(network, *batch, Budget("Linf", 0.1), generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_nonsense_is_refused(network: nn.Module, batch: Batch) -> None:
    with pytest.raises(ValueError, match="draws must be at least 1, not 0"):
        noise(network, *batch, Budget("Linf", 0.1), draws=0)
