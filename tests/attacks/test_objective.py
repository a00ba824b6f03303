from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.attacks.losses import cross_entropy, margin
from carso.attacks.objective import Objective, is_random, repeat
from carso.errors import ModelError
from carso.types import Budget

Batch = tuple[Tensor, Tensor]
PIXEL = Budget("Linf", 0.1)


class Coin(nn.Module):
    """Logits (x, s) with x the mean pixel and s 0 or 1 at random: the class is 1 half of the time."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([mean, torch.randint(2, mean.shape).float() + 0 * mean], dim=1)


def test_one_call_is_the_loss_and_its_gradient(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    loss, gradient, fooled = Objective(network, cross_entropy)(images, labels)
    x = images.clone().requires_grad_()
    expected = cross_entropy(network(x), labels)
    assert torch.allclose(loss, expected)
    assert torch.allclose(gradient, torch.autograd.grad(expected.sum(), x)[0], atol=1e-7)
    assert torch.equal(fooled, network(images).argmax(1) != labels)


def test_averaging_a_deterministic_model_changes_nothing(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    once, often = Objective(network, margin)(images, labels), Objective(network, margin, calls=3)(images, labels)
    assert all(torch.allclose(a.float(), b.float(), atol=1e-6) for a, b in zip(once, often, strict=True))


def test_calls_average_the_randomness() -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(1, 1, 2, 2), torch.zeros(1, dtype=torch.long)
    loss, gradient, _ = Objective(Coin(), margin, calls=4000)(images, labels)
    assert loss.item() == pytest.approx(0.5 - images.mean().item(), abs=0.03)
    assert torch.allclose(gradient, torch.full_like(images, -0.25))


def test_targeted_turns_the_loss_and_the_success_around(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    value, fooled = Objective(network, margin).value(images, labels)
    turned, reached = Objective(network, margin, targeted=True).value(images, labels)
    assert torch.equal(turned, -value)
    assert torch.equal(reached, ~fooled)


def test_a_random_model_is_judged_by_ten_calls(network: nn.Module, batch: Batch) -> None:
    calls: list[int] = []

    def counting(images: Tensor) -> Tensor:
        calls.append(len(images))
        logits: Tensor = network(images)
        return logits

    Objective(counting, margin).judge(*batch)
    assert len(calls) == 1
    Objective(counting, margin, random=True).judge(*batch)
    assert len(calls) == 11


def test_randomness_is_noticed(network: nn.Module, batch: Batch) -> None:
    torch.manual_seed(0)
    assert not is_random(network, batch[0])
    assert is_random(Coin(), batch[0])


def test_a_model_without_gradient_says_so(network: nn.Module, batch: Batch) -> None:
    def detached(images: Tensor) -> Tensor:
        logits: Tensor = network(images.detach())
        return logits.detach()

    with pytest.raises(ModelError, match="no gradient"):
        Objective(detached, margin)(*batch)


class TestRepeat:
    """One pixel, class 0 while it is below 0.55; runs return what the script says."""

    images = torch.full((3, 1, 1, 1), 0.5)
    labels = torch.zeros(3, dtype=torch.long)

    @staticmethod
    def model(images: Tensor) -> Tensor:
        x = images.flatten(1)
        return torch.cat([0.55 - x, x - 0.55], dim=1)

    def play(self, script: list[list[float]], **options: Any) -> tuple[Tensor, list[int]]:
        sizes: list[int] = []

        def run(images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
            sizes.append(len(images))
            return torch.tensor(script[len(sizes) - 1][: len(images)]).view(-1, 1, 1, 1)

        options = {"start": None, "generator": None} | options
        objective = Objective(self.model, margin)
        found = repeat(run, objective, self.images, self.labels, PIXEL, restarts=len(script), **options)
        return found.flatten(), sizes

    def test_successes_rest_and_the_best_failure_is_kept(self) -> None:
        found, sizes = self.play([[0.45, 0.58, 0.52], [0.50, 0.50], [0.48, 0.56]])
        assert sizes == [3, 2, 2]
        assert torch.allclose(found, torch.tensor([0.50, 0.58, 0.56]))

    def test_it_stops_when_all_are_fooled(self) -> None:
        _, sizes = self.play([[0.6, 0.6, 0.6], [0.6, 0.6, 0.6]])
        assert sizes == [3]

    def test_a_run_cannot_leave_the_budget(self) -> None:
        found, _ = self.play([[0.9, 0.0, 0.5]])
        assert found.min() >= 0.4
        assert found.max() <= 0.6
