from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso import attacks
from carso.attacks.losses import cross_entropy, margin
from carso.attacks.objective import Objective, is_random, repeat
from carso.audit.target import Known
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


@pytest.mark.parametrize("count", [1, 3, 200])
def test_noise_in_a_tenth_of_the_calls_is_noticed(network: nn.Module, batch: Batch, count: int) -> None:
    """With one chance in a thousand to miss it; two calls would miss it in 650 of 800 models."""
    torch.manual_seed(0)

    def rarely_noisy(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits + torch.randn_like(logits) if torch.rand(()) < 0.1 else logits

    assert sum(is_random(rarely_noisy, batch[0][:count]) for _ in range(800)) >= 796
    assert not any(is_random(network, batch[0][:count]) for _ in range(20))


def test_noise_on_a_few_images_is_noticed(network: nn.Module, batch: Batch) -> None:
    """On the brightest quarter alone, wherever they are."""
    brightness = batch[0].flatten(1).mean(1)
    images, least = batch[0][brightness.argsort()], brightness.quantile(0.75)

    def noisy(images: Tensor) -> Tensor:
        logits: Tensor = network(images)
        return logits + torch.randn_like(logits) * (images.flatten(1).mean(1) > least)[:, None]

    assert is_random(noisy, images)


def test_a_model_that_is_always_random_is_called_twice(batch: Batch) -> None:
    """So that what it draws afterwards does not depend on how hard randomness is looked for."""
    calls: list[int] = []

    def counting(images: Tensor) -> Tensor:
        calls.append(len(images))
        return Coin()(images)

    torch.manual_seed(0)
    assert is_random(counting, batch[0])
    assert calls == [32, 32]


def test_a_model_known_not_to_vary_is_not_called(batch: Batch) -> None:
    assert not is_random(Known(Coin(), None, varies=False), batch[0])
    assert is_random(Known(Coin(), None, varies=None), batch[0])


def test_a_model_that_writes_into_its_input_is_not_random_for_that(network: nn.Module, batch: Batch) -> None:
    before = batch[0].clone()
    assert not is_random(lambda images: network(images.mul_(0.9)), batch[0])
    assert torch.equal(batch[0], before)


def test_two_nan_are_alike(batch: Batch) -> None:
    assert not is_random(lambda images: images.flatten(1)[:, :3] * torch.nan, batch[0])


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

    def play(self, script: list[list[float]], random: bool = False, **options: Any) -> tuple[Tensor, list[int]]:
        sizes: list[int] = []

        def run(images: Tensor, labels: Tensor, start: Tensor) -> Tensor:
            sizes.append(len(images))
            return torch.tensor(script[len(sizes) - 1][: len(images)]).view(-1, 1, 1, 1)

        options = {"start": None, "generator": None} | options
        objective = Objective(self.model, margin, random=random)
        found = repeat(run, objective, self.images, self.labels, PIXEL, restarts=len(script), **options)
        return found.flatten(), sizes

    def test_successes_rest_and_the_best_failure_is_kept(self) -> None:
        found, sizes = self.play([[0.45, 0.58, 0.52], [0.50, 0.50], [0.48, 0.56]])
        assert sizes == [3, 2, 2]
        assert torch.allclose(found, torch.tensor([0.50, 0.58, 0.56]))

    def test_against_a_random_model_none_rests_and_the_best_success_is_kept(self) -> None:
        found, sizes = self.play([[0.45, 0.58, 0.52], [0.50, 0.57, 0.56], [0.48, 0.59, 0.53]], random=True)
        assert sizes == [3, 3, 3]
        assert torch.allclose(found, torch.tensor([0.50, 0.59, 0.56]))

    def test_it_stops_when_all_are_fooled(self) -> None:
        _, sizes = self.play([[0.6, 0.6, 0.6], [0.6, 0.6, 0.6]])
        assert sizes == [3]

    def test_a_run_cannot_leave_the_budget(self) -> None:
        found, _ = self.play([[0.9, 0.0, 0.5]])
        assert found.min() >= 0.4
        assert found.max() <= 0.6


class Small:
    """A model that wants three images at a time, and keeps how many it was given."""

    batch = 3

    def __init__(self, network: nn.Module) -> None:
        self.network, self.sizes = network, list[int]()

    def __call__(self, images: Tensor) -> Tensor:
        self.sizes.append(len(images))
        logits: Tensor = self.network(images)
        return logits


def test_a_model_that_says_how_many_at_a_time_is_given_no_more(network: nn.Module, batch: Batch) -> None:
    """The answers are those of the whole batch, and so is what five calls are averaged to."""
    images, labels = batch
    model = Small(network)
    small, whole = Objective(model, margin, calls=5), Objective(network, margin, calls=5)
    for ours, theirs in zip(small(images, labels), whole(images, labels), strict=True):
        torch.testing.assert_close(ours, theirs)
    for ours, theirs in zip(small.value(images, labels), whole.value(images, labels), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert max(model.sizes) <= 3 * torch.get_num_threads()
    assert sum(model.sizes) == 2 * 5 * len(images)


def test_attacks_give_a_model_no_more_at_a_time_than_it_says(network: nn.Module, batch: Batch) -> None:
    """But for the looks for randomness, of 32 images and of 4."""
    most = 3 * torch.get_num_threads()
    for attack in (attacks.annealed, attacks.apgd, attacks.pgd):
        model = Small(network)
        attack(model, *batch, Budget("Linf", 1e-6), steps=4)
        assert {size for size in model.sizes if size > most} <= {4, 32}
        assert sum(size <= most for size in model.sizes) > len(batch[0]) // most


def test_an_attribute_of_that_name_may_mean_something_else(network: nn.Module, batch: Batch) -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.batch = network, nn.BatchNorm1d(5)

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.network(images)
            return logits

    ours, theirs = Objective(Normed().eval(), margin)(*batch), Objective(network, margin)(*batch)
    assert all(map(torch.equal, ours, theirs))


@pytest.mark.parametrize(("name", "value"), [("varies", torch.tensor([1, 0])), ("varies", "often"), ("batch", -1)])
def test_attributes_of_the_users_are_not_taken_for_ours(
    network: nn.Module, batch: Batch, name: str, value: Any
) -> None:
    named = copy.deepcopy(network)
    plain = attacks.pgd(network, *batch, PIXEL, steps=3, generator=torch.Generator().manual_seed(0))
    setattr(named, name, value)
    found = attacks.pgd(named, *batch, PIXEL, steps=3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(found, plain)


def test_a_model_that_says_it_varies_is_believed(network: nn.Module, batch: Batch) -> None:
    class Saying(nn.Module):
        varies = True

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = network(images)
            return logits

    assert is_random(Saying(), batch[0])
