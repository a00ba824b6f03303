from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.attacks import fgsm, pgd
from carso.attacks.ball import uniform, unit
from carso.attacks.gradient import ascend, input_gradient
from carso.attacks.losses import cross_entropy, margin
from carso.types import Budget

Batch = tuple[Tensor, Tensor]


def accuracy(model: Any, images: Tensor, labels: Tensor) -> float:
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def binary(seed: int = 0) -> tuple[nn.Sequential, Tensor]:
    """A linear model of two classes, and the direction w in which class 1 gains on class 0."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    w = (model[1].weight[1] - model[1].weight[0]).detach().view(1, 3, 4)
    return model, w


INSIDE = 0.4 + 0.2 * torch.rand(6, 1, 3, 4, generator=torch.Generator().manual_seed(1))
ZEROS = torch.zeros(6, dtype=torch.long)


@pytest.mark.parametrize("fast", [False, True])
class TestLinear:
    """On a linear model the gradient is known, and both attacks reach the best point of the ball."""

    @pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
    @pytest.mark.parametrize("targeted", [False, True])
    def test_linf(self, loss: str, targeted: bool, fast: bool) -> None:
        model, w = binary()
        labels = ZEROS + 1 if targeted else ZEROS
        best = INSIDE + 0.1 * w.sign()
        budget = Budget("Linf", 0.1)
        assert torch.allclose(fgsm(model, INSIDE, labels, budget, loss=loss, targeted=targeted, fast=fast), best)
        assert torch.allclose(pgd(model, INSIDE, labels, budget, loss=loss, targeted=targeted, fast=fast), best)

    @pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
    def test_l2(self, loss: str, fast: bool) -> None:
        model, w = binary()
        best = INSIDE + 0.2 * w / w.norm()
        assert torch.allclose(fgsm(model, INSIDE, ZEROS, Budget("L2", 0.2), loss=loss, fast=fast), best, atol=1e-5)
        attacked = pgd(model, INSIDE, ZEROS, Budget("L2", 0.2), loss=loss, alpha=0.1, steps=60, fast=fast)
        assert torch.allclose(attacked, best, atol=1e-4)

    def test_box(self, fast: bool) -> None:
        model, w = binary()
        attacked = pgd(model, INSIDE, ZEROS, Budget("Linf", 1e30), fast=fast)
        assert torch.allclose(attacked, (w > 0).float().expand_as(INSIDE))


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("eps", [1e-30, 0.1, 0.3, 2.0, 1e30])
@pytest.mark.parametrize("attack", [fgsm, pgd])
def test_budget_and_box_hold(network: nn.Module, batch: Batch, attack: Any, norm: Any, eps: float) -> None:
    images, labels = batch
    delta = (attack(network, images, labels, Budget(norm, eps)) - images).flatten(1)
    assert delta.norm(p={"Linf": torch.inf, "L2": 2, "L1": 1}[norm], dim=1).max().item() <= eps


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.08), ("L2", 0.7)])
def test_more_effort_never_hurts(network: nn.Module, batch: Batch, norm: Any, eps: float) -> None:
    images, labels = batch
    budget = Budget(norm, eps)

    def left(attack: Any, **options: Any) -> float:
        generator = torch.Generator().manual_seed(0)
        return accuracy(network, attack(network, images, labels, budget, generator=generator, **options), labels)

    clean, one_step, ascent, restarted = (
        accuracy(network, images, labels),
        left(fgsm),
        left(pgd),
        left(pgd, restarts=3),
    )
    assert clean > one_step > ascent >= restarted
    assert ascent < clean - 0.2


def test_restarts_keep_the_best_per_image(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    budget, first, second = Budget("Linf", 0.05), torch.Generator().manual_seed(7), torch.Generator().manual_seed(7)
    once = pgd(network, images, labels, budget, steps=2, generator=first)
    often = pgd(network, images, labels, budget, steps=2, restarts=4, generator=second)
    fooled_once, fooled_often = (network(x).argmax(1) != labels for x in (once, often))
    assert (fooled_often | ~fooled_once).all()
    assert torch.equal(often[fooled_once], once[fooled_once])
    still = ~fooled_often
    losses_once, losses_often = (cross_entropy(network(x), labels)[still] for x in (once, often))
    assert (losses_often >= losses_once).all()
    assert (losses_often > losses_once).any()


def test_restarts_do_not_rest_on_one_lucky_draw() -> None:
    """From 0.5 the loss rises either way, by noise over the border or under it; beyond it is only what goes up."""
    torch.manual_seed(0)
    images, labels = torch.full((1000, 1, 1, 1), 0.5), torch.zeros(1000, dtype=torch.long)

    def model(images: Tensor) -> Tensor:
        x = images.flatten(1) - 0.5
        rise = torch.where(x > 0, x - 0.05, -0.1 * x - 0.05)
        return torch.cat([torch.zeros_like(x), rise + 0.05 * torch.randn_like(x)], dim=1)

    found = pgd(model, images, labels, Budget("Linf", 0.1), steps=5, restarts=6)
    assert (found > 0.55).float().mean() > 0.96


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_targets_are_reached(network: nn.Module, batch: Batch, norm: Any) -> None:
    images, labels = batch
    targets = (labels + 3) % 10
    attacked = pgd(network, images, targets, Budget(norm, {"Linf": 0.5, "L2": 5.0, "L1": 40.0}[norm]), targeted=True)
    assert accuracy(network, attacked, targets) > 0.95


def test_a_loss_of_ones_own(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    budget = Budget("Linf", 0.1)
    own = pgd(network, images, labels, budget, loss=lambda z, y: margin(z, y), generator=torch.Generator())
    named = pgd(network, images, labels, budget, loss="margin", generator=torch.Generator())
    assert torch.equal(own, named)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_the_seed_decides(network: nn.Module, batch: Batch, norm: Any) -> None:
    images, labels = batch
    attacked = [
        pgd(network, images, labels, Budget(norm, 0.1), steps=3, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(attacked[0], attacked[1])
    assert not torch.equal(attacked[0], attacked[2])


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_budgets_mix_in_one_batch(network: nn.Module, batch: Batch, norm: Any, fast: bool) -> None:
    images, labels = batch
    eps = torch.tensor([0.0, 0.05, 0.1, 0.2, 0.3]).repeat(40).view(-1, 1, 1, 1)
    mixed = ascend(network, images, labels, images, eps, eps / 4, steps=5, norm=norm, loss=cross_entropy, fast=fast)
    assert torch.equal(mixed[::5], images[::5])
    for i, radius in enumerate([0.05, 0.1, 0.2, 0.3], start=1):
        options = {"steps": 5, "alpha": radius / 4, "random_start": False, "fast": fast}
        alone = pgd(network, images[i::5], labels[i::5], Budget(norm, radius), **options)
        assert ((mixed[i::5] - alone).abs() > 1e-5).float().mean() < 0.01 * fast + 1e-9


def test_a_small_step_stays_near(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    attacked = pgd(network, images, labels, Budget("Linf", 0.3), steps=4, alpha=0.01, random_start=False)
    assert (attacked - images).abs().max() <= 0.04 + 1e-6


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_no_gradient_no_nan(norm: Any, fast: bool) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    nn.init.zeros_(model[1].weight)
    assert torch.equal(fgsm(model, INSIDE, ZEROS, Budget(norm, 0.1), fast=fast), INSIDE)
    assert torch.equal(pgd(model, INSIDE, ZEROS, Budget(norm, 0.1), random_start=False, fast=fast), INSIDE)


def test_unit_steps_have_length_one_however_small_the_gradient() -> None:
    gradient = torch.randn(4, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    for scale in (1.0, 1e-30, 1e30):
        assert torch.allclose(unit(gradient * scale, "L2"), unit(gradient, "L2"), atol=1e-6)
    assert torch.allclose(unit(gradient, "L2").flatten(1).norm(dim=1), torch.ones(4))


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_random_starts_fill_the_ball_uniformly(norm: Any) -> None:
    images, eps = torch.full((20_000, 1, 1, 2), 0.5), 0.4
    starts = uniform(images, Budget(norm, eps), torch.Generator().manual_seed(0)) - images
    sizes = starts.flatten(1).norm(p={"Linf": torch.inf, "L2": 2, "L1": 1}[norm], dim=1)
    assert sizes.max() <= eps + 1e-6
    for share in (0.3, 0.6, 0.9):  # in two dimensions a ball of radius r holds r^2 of the volume
        assert (sizes <= share * eps).float().mean().item() == pytest.approx(share**2, abs=0.015)


def test_the_model_is_left_as_it_was(batch: Batch) -> None:
    images, labels = batch
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(144, 20), nn.BatchNorm1d(20), nn.Dropout(0.5), nn.Linear(20, 10))
    model[2].eval()
    model[1].weight.requires_grad_(False)
    model[4](torch.ones(1, 20)).sum().backward()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    grad = model[4].weight.grad.clone()
    with torch.inference_mode():
        first = pgd(model, images, labels, Budget("Linf", 0.1), generator=torch.Generator().manual_seed(0))
    second = pgd(model, images, labels, Budget("Linf", 0.1), generator=torch.Generator().manual_seed(0))
    assert torch.equal(first, second)
    assert not second.requires_grad
    assert [module.training for module in model] == [True, True, False, True, True]
    assert [p.requires_grad for p in model.parameters()] == [False] + 5 * [True]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(model[4].weight.grad, grad)
    assert all(p.grad is None for p in model[2].parameters())


def test_plain_callables_and_other_integer_labels(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    attacked = fgsm(lambda x: network(x), images, labels.int(), Budget("Linf", 0.1))
    assert torch.allclose(attacked, fgsm(network, images, labels, Budget("Linf", 0.1), fast=False))


def test_gradient_matches_finite_differences(network: nn.Module, batch: Batch) -> None:
    images, labels = batch[0][:4].double(), batch[1][:4]
    model = nn.Sequential(*network).double()
    gradient = input_gradient(model, images, labels, cross_entropy)
    h = torch.randn(images.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1e-6
    rise = cross_entropy(model(images + h), labels) - cross_entropy(model(images - h), labels)
    model.float()
    assert torch.allclose(2 * (gradient * h).flatten(1).sum(1), rise, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("options", [{"steps": 0}, {"restarts": 0}, {"alpha": 0.0}, {"alpha": float("nan")}])
def test_nonsense_options_are_refused(network: nn.Module, batch: Batch, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"^{next(iter(options))} must be "):
        pgd(network, *batch, Budget("Linf", 0.1), **options)


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.05), ("Linf", 0.1), ("L2", 0.4), ("L2", 0.8)])
class TestOracles:
    """At an equal budget, start, steps and step length, no fewer successes than the others' attacks."""

    def test_torchattacks(self, network: nn.Module, batch: Batch, norm: str, eps: float, fast: bool) -> None:
        torchattacks = pytest.importorskip("torchattacks")
        images, labels = batch
        rival = torchattacks.PGD if norm == "Linf" else torchattacks.PGDL2
        theirs = rival(network, eps=eps, alpha=eps / 10, steps=40, random_start=False)(images, labels)
        self.compare(network, batch, theirs, norm, eps, fast)

    def test_foolbox(self, network: nn.Module, batch: Batch, norm: str, eps: float, fast: bool) -> None:
        foolbox = pytest.importorskip("foolbox")
        images, labels = batch
        rival = foolbox.attacks.LinfPGD if norm == "Linf" else foolbox.attacks.L2PGD
        attack = rival(steps=40, abs_stepsize=eps / 10, random_start=False)
        _, theirs, _ = attack(foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu"), images, labels, epsilons=eps)
        self.compare(network, batch, theirs, norm, eps, fast)

    def compare(self, network: nn.Module, batch: Batch, theirs: Tensor, norm: Any, eps: float, fast: bool) -> None:
        images, labels = batch
        budget, options = Budget(norm, eps), {"steps": 40, "alpha": eps / 10, "random_start": False}
        ours = pgd(network, images, labels, budget, fast=fast, **options)
        assert 0.0 < accuracy(network, theirs, labels) < accuracy(network, images, labels)
        assert accuracy(network, ours, labels) <= accuracy(network, theirs, labels) + 0.005
