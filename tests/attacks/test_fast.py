from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.attacks import fgsm, gradient, pgd
from carso.attacks.ball import Pace, annealing, steady
from carso.attacks.losses import LOSSES, cross_entropy
from carso.errors import ModelError
from carso.fast import full_precision
from carso.nn import MLP
from carso.types import Budget

Batch = tuple[Tensor, Tensor]
pullback = importlib.import_module("carso.fast.pullback")
BALLS = [("Linf", 0.05), ("Linf", 0.08), ("L2", 0.4), ("L2", 0.7)]


def fooled(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return network(images).argmax(1) != labels


@pytest.mark.parametrize(("norm", "eps"), BALLS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("pace", [steady, annealing])
def test_float32_takes_the_same_steps(
    network: nn.Module, batch: Batch, norm: Any, eps: float, loss: str, targeted: bool, pace: Pace
) -> None:
    images, labels = batch
    start = gradient.uniform(images, Budget(norm, eps), torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"steps": 3, "norm": norm, "loss": LOSSES[loss], "targeted": targeted, "pace": pace}
    plain = gradient.ascend(network, images, labels, start, eps, eps / 5, fast=False, **options)
    with full_precision():
        ours = gradient.ascend(network, images, labels, start, eps, eps / 5, fast=True, **options)
    differs = (ours - plain).abs() > 1e-5
    assert differs.float().mean() < 2e-4  # pixels whose gradient is a rounding error away from zero
    assert not torch.allclose(plain, start, atol=0.01)


@pytest.mark.parametrize(("norm", "eps"), BALLS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_strength(
    network: nn.Module, batch: Batch, norm: Any, eps: float, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = batch
    start = gradient.uniform(images, Budget(norm, eps), torch.Generator().manual_seed(0))
    options: dict[str, Any] = {"steps": 40, "norm": norm, "loss": cross_entropy, "targeted": False}
    plain = gradient.ascend(network, images, labels, start, eps, eps / 10, fast=False, **options)
    monkeypatch.setattr(pullback, "product_dtype", lambda _: dtype)
    ours = gradient.ascend(network, images, labels, start, eps, eps / 10, fast=True, **options)
    theirs, here = fooled(network, plain, labels), fooled(network, ours, labels)
    assert fooled(network, images, labels).float().mean() + 0.02 < theirs.float().mean() < 0.98
    assert abs(theirs.float().mean() - here.float().mean()) <= 0.01
    assert (theirs != here).float().mean() <= 0.02


def test_masked_gradients_stay_masked(batch: Batch) -> None:
    """On the published code's output layers the fast path meets the same vanishing gradients."""
    images, labels = batch
    torch.manual_seed(0)
    model = MLP((1, 12, 12), hidden=(40, 30), output="mish-log-softmax").eval()
    budget = Budget("Linf", 0.1)
    plain, fast = (pgd(model, images, labels, budget, steps=5, random_start=False, fast=f) for f in (False, True))
    assert ((plain - fast).abs() > 1e-5).float().mean() < 0.02


def test_chunks_do_not_matter(network: nn.Module, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = batch
    eps = torch.linspace(0.01, 0.1, len(images)).view(-1, 1, 1, 1)
    options: dict[str, Any] = {"steps": 3, "loss": cross_entropy, "fast": True}
    whole = gradient.ascend(network, images, labels, images, eps, eps / 3, **options)
    monkeypatch.setattr(pullback, "PIXELS_PER_CORE", 144 * 7 // torch.get_num_threads())
    pieces = gradient.ascend(network, images, labels, images, eps, eps / 3, **options)
    assert ((whole - pieces).abs() > 1e-5).float().mean() < 0.01


def test_chosen_by_itself_where_it_applies(network: nn.Module, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    by_hand = pullback.Backpropagation
    monkeypatch.setattr(pullback, "Backpropagation", lambda *given: calls.append(1) or by_hand(*given))
    budget = Budget("Linf", 0.1)
    fgsm(network, *batch, budget)
    pgd(network, *batch, budget, steps=2)
    assert len(calls) == 2
    pgd(network, *batch, budget, steps=2, fast=False)
    pgd(lambda x: network(x), *batch, budget, steps=2)
    assert len(calls) == 2


def test_asked_for_where_it_does_not_apply(batch: Batch) -> None:
    with pytest.raises(ModelError, match="fast=True needs a chain"):
        pgd(lambda x: x.flatten(1), *batch, Budget("Linf", 0.1), fast=True)


def test_a_model_in_train_mode_is_run_by_autograd(batch: Batch) -> None:
    torch.manual_seed(0)
    model = MLP((1, 12, 12), hidden=(40, 30)).train()
    options: dict[str, Any] = {"steps": 1, "loss": cross_entropy}
    with pytest.raises(ModelError):
        gradient.ascend(model, *batch, batch[0], 0.1, 0.1, fast=True, **options)
    assert gradient.ascend(model, *batch, batch[0], 0.1, 0.1, **options).shape == batch[0].shape
