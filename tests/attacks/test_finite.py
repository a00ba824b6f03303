"""NaN compares as false: an attack that meets it goes on where it can, and says so in the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.attacks import ATTACKS, fgsm, pgd
from carso.attacks.deepfool import minimal_perturbation
from carso.attacks.eot import Expectation, calls
from carso.attacks.losses import margin
from carso.errors import ModelError, NonFiniteError
from carso.nn.monitor import Monitor
from carso.types import Budget

Batch = tuple[Tensor, Tensor]
Model = Callable[[Tensor], Tensor]
BUDGET = Budget("Linf", 0.08)
OPTIONS: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 5, "random_start": False},
    "deepfool": {"steps": 10},
    "apgd": {"steps": 5},
    "pgd-eot": {"steps": 5},
    "square": {"queries": 20},
    "spsa": {"steps": 3, "directions": 4},
    "noise": {"draws": 3},
}
BY_GRADIENT = ["fgsm", "pgd", "deepfool", "apgd", "pgd-eot"]


def run(name: str, model: Model, images: Tensor, labels: Tensor, **more: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    found: Tensor = ATTACKS[name](model, images, labels, BUDGET, generator=generator, **OPTIONS.get(name, {}) | more)
    return found


@pytest.fixture
def marked(network: nn.Module, batch: Batch) -> Batch:
    """Images whose first pixel tells, within the budget and beyond, which of them break a model; N's own answers."""
    images = batch[0][:60].clone()
    images[:, 0, 0, 0] = (torch.arange(60) % 3 == 0).float()
    return images, network(images).argmax(1)


def broken(images: Tensor) -> Tensor:
    return images[:, 0, 0, 0] > 0.5


def with_nan_gradient(network: nn.Module) -> Model:
    """The network, with a gradient of NaN for every third image and logits as they were."""

    def model(images: Tensor) -> Tensor:
        good = (~broken(images)).float().view(-1, 1, 1, 1)
        logits: Tensor = network(images) + 0 * torch.sqrt(0 * images + good).sum((1, 2, 3))[:, None]
        return logits

    return model


def with_logits(network: nn.Module, value: float) -> Model:
    """The network, with this value for the last logit of every third image."""

    def model(images: Tensor) -> Tensor:
        last = torch.zeros(10).index_fill(0, torch.tensor([9]), 1.0).bool()
        logits: Tensor = network(images)
        return torch.where(broken(images)[:, None] & last, value, logits)

    return model


def fooled(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images).argmax(1) != labels


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_gradient_of_nan_is_told_and_the_others_are_attacked(name: str, network: nn.Module, marked: Batch) -> None:
    images, labels = marked
    with pytest.raises(NonFiniteError, match="20 of 60 images") as caught:
        run(name, with_nan_gradient(network), images, labels)
    assert (caught.value.images, caught.value.total) == (20, 60)
    found, good = caught.value.found, ~broken(images)
    expected = fooled(network, run(name, lambda x: network(x), images, labels), labels)[good]
    assert expected.float().mean() > 0.2
    assert (fooled(network, found, labels)[good] == expected).float().mean() >= 0.95
    assert (found - images).abs().max() <= BUDGET.eps
    assert found.min() >= 0
    assert found.max() <= 1


@pytest.mark.parametrize("name", ["square", "spsa", "noise"])
def test_attacks_without_gradients_do_not_mind_it(name: str, network: nn.Module, marked: Batch) -> None:
    plain = run(name, lambda x: network(x), *marked)
    assert torch.equal(run(name, with_nan_gradient(network), *marked), plain)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ATTACKS)
def test_logits_that_are_not_finite_are_told(name: str, value: float, network: nn.Module, marked: Batch) -> None:
    images, labels = marked
    with pytest.raises(NonFiniteError) as caught:
        run(name, with_logits(network, value), images, labels)
    assert caught.value.images == 20
    assert caught.value.found.isfinite().all()
    assert (caught.value.found - images).abs().max() <= BUDGET.eps


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_a_loss_without_finite_gradient_is_told(name: str, fast: bool, network: nn.Module, marked: Batch) -> None:
    def rooted(logits: Tensor, labels: Tensor) -> Tensor:
        return margin(logits, labels) + torch.sqrt(0 * logits).sum(1)

    with pytest.raises(NonFiniteError, match="60 of 60"):
        run(name, network, *marked, loss=rooted, fast=fast)


def test_a_loss_of_nan_is_told_and_never_the_best(network: nn.Module, marked: Batch) -> None:
    images, labels = marked
    sizes: list[int] = []

    def at_first_nan(logits: Tensor, labels: Tensor) -> Tensor:
        sizes.append(len(logits))
        return margin(logits, labels) * (torch.nan if len(sizes) == 1 else 1)

    with pytest.raises(NonFiniteError, match="60 of 60") as caught:
        run("apgd", lambda x: network(x), images, labels, loss=at_first_nan)
    assert fooled(network, caught.value.found, labels).float().mean() > 0.2


def test_nothing_is_told_of_a_sound_model(network: nn.Module, marked: Batch) -> None:
    for name in ATTACKS:
        assert run(name, network, *marked).isfinite().all()


def test_the_minimal_perturbation_is_told_too(network: nn.Module, marked: Batch) -> None:
    with pytest.raises(NonFiniteError, match="20 of 60"):
        minimal_perturbation(with_nan_gradient(network), *marked, "L2")


def test_images_are_counted_and_not_candidates(network: nn.Module, marked: Batch) -> None:
    model = Expectation(calls(with_nan_gradient(network)), 5)
    with pytest.raises(NonFiniteError, match="20 of 60"):
        run("pgd-eot", model, *marked)


class Peel(nn.Module):
    """The published aggregation log(p / (1 - p)) of p = softmax of sum_i exp(l_i), of eight candidates alike."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        p = (8 * (self.network(images) / 7).exp()).softmax(1)
        return (p / (1 - p)).log()


@pytest.mark.parametrize("attack", [fgsm, partial(pgd, random_start=False)])
def test_the_published_aggregation_is_not_taken_for_robust(attack: Any, network: nn.Module, batch: Batch) -> None:
    images = batch[0]
    labels = network(images).argmax(1)
    masked = ~Peel(network)(images).isfinite().all(1)
    assert 0.2 < masked.float().mean() < 1
    with pytest.raises(ModelError, match="would pass for robust") as caught:
        attack(Peel(network), images, labels, BUDGET)
    assert isinstance(caught.value, NonFiniteError)
    assert caught.value.images >= masked.sum()
    assert caught.value.found.shape == images.shape
    before_it = fooled(network, attack(network, images, labels, BUDGET), labels)
    assert before_it.sum() > fooled(network, caught.value.found, labels).sum()


def test_large_numbers_are_finite() -> None:
    monitor, rows = Monitor(), torch.full((3, 4), 3e38)
    assert monitor.cleaned(rows) is not None
    assert monitor.most == 0
    rows[1, 2] = -torch.inf
    assert torch.equal(monitor.cleaned(rows), torch.where(rows > 0, rows, 0.0))
    assert monitor.most == 1
    monitor.note(torch.full((2,), torch.nan))
    assert monitor.most == 2
