"""What an attack library is handed differentiates the surrogate; what it is not to differentiate says what to hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import carso
from carso.errors import NoGradientError
from carso.nn import MLP
from carso.purifier import Purifier
from carso.surrogate import SAMPLES

EPS = 0.1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def defence() -> carso.CARSO:
    """One whose candidates depend on the image."""
    torch.manual_seed(0)
    classifier, purifier = MLP((1, 8, 8), (12,), 5).eval(), Purifier((1, 8, 8), 17, latent=4)
    with torch.no_grad():
        classifier.logits.weight.mul_(4)
        purifier.representation_encoder[-2].weight.mul_(40)
        purifier.decoder[0].weight.mul_(10)
        purifier.decoder[-2].weight.mul_(20)
    return carso.CARSO(classifier, purifier, samples=60)


@pytest.fixture(scope="module")
def batch(defence: carso.CARSO) -> tuple[Tensor, Tensor]:
    images = torch.rand(16, 1, 8, 8, generator=seeded())
    return images, defence.surrogate(images, 100, generator=seeded()).argmax(1)


def test_it_is_the_surrogate_with_fresh_latents(defence: carso.CARSO, batch: tuple[Tensor, Tensor]) -> None:
    images, module = batch[0], defence.differentiable(7)
    torch.manual_seed(3)
    found = module(images)
    torch.manual_seed(3)
    assert torch.equal(found, defence.surrogate(images, 7))
    assert not torch.equal(module(images), module(images))
    torch.testing.assert_close(found.exp().sum(1).clamp(max=1), found.exp().sum(1))


def test_it_is_in_eval_mode_and_says_how_many_candidates(defence: carso.CARSO) -> None:
    assert not defence.differentiable().training
    assert f"samples={SAMPLES}" in repr(defence.differentiable())
    with pytest.raises(ValueError, match="samples must be at least 1, not 0"):
        defence.differentiable(0)


def test_of_a_fixed_defence_it_is_deterministic(defence: carso.CARSO, batch: tuple[Tensor, Tensor]) -> None:
    module = defence.fixed(5).differentiable(6)
    latents = defence.fixed(5).latents()[:6]
    assert torch.equal(module(batch[0]), defence.surrogate(batch[0], latents=latents))


def test_its_weights_are_left_without_gradients(defence: carso.CARSO, batch: tuple[Tensor, Tensor]) -> None:
    x = batch[0].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(defence.differentiable()(x)[:, 0].sum(), x)
    assert gradient.abs().sum() > 0
    assert all(weights.grad is None for weights in defence.parameters())


def by_torchattacks(name: str, **options: Any) -> Callable[[Any, Tensor, Tensor], Tensor]:
    def attack(model: Any, images: Tensor, labels: Tensor) -> Tensor:
        attacks = pytest.importorskip("torchattacks")
        found: Tensor = getattr(attacks, name)(model, eps=EPS, **options)(images, labels)
        return found

    return attack


def by_foolbox(name: str, **options: Any) -> Callable[[Any, Tensor, Tensor], Tensor]:
    def attack(model: Any, images: Tensor, labels: Tensor) -> Tensor:
        foolbox = pytest.importorskip("foolbox")
        seen = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        _, found, _ = getattr(foolbox.attacks, name)(**options)(seen, images, labels, epsilons=EPS)
        return found.detach()

    return attack


ATTACKS = {
    "torchattacks FGSM": by_torchattacks("FGSM"),
    "torchattacks PGD": by_torchattacks("PGD", alpha=EPS / 4, steps=10),
    "torchattacks EOTPGD": by_torchattacks("EOTPGD", alpha=EPS / 4, steps=5, eot_iter=2),
    "torchattacks APGD": by_torchattacks("APGD", steps=10, eot_iter=2),
    "foolbox LinfFastGradientAttack": by_foolbox("LinfFastGradientAttack"),
    "foolbox LinfPGD": by_foolbox("LinfPGD", rel_stepsize=0.25, steps=10),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_library_lowers_what_the_vote_gets_right(
    name: str, defence: carso.CARSO, batch: tuple[Tensor, Tensor]
) -> None:
    """More than noise of the same size does; the attack is measured on fresh latents that it never saw."""
    images, labels = batch
    torch.manual_seed(0)
    attacked = ATTACKS[name](defence.differentiable(8), images, labels)
    assert (attacked - images).abs().max() <= EPS + 1e-6
    noisy = (images + EPS * (2 * torch.rand(images.shape, generator=seeded(1)) - 1).sign()).clamp(0, 1)

    def share(seen: Tensor) -> float:
        return defence.votes(seen, seeded(9)).gather(1, labels.unsqueeze(1)).sum().item() / (60 * len(labels))

    assert share(attacked) < share(noisy) - 0.05


@pytest.mark.parametrize("name", ["torchattacks PGD", "foolbox LinfPGD"])
def test_the_defence_itself_names_what_to_attack_instead(
    name: str, defence: carso.CARSO, batch: tuple[Tensor, Tensor]
) -> None:
    with pytest.raises(NoGradientError, match=r"attack `defence\.differentiable\(\)` instead"):
        ATTACKS[name](defence, *batch)


def test_so_it_does_to_our_own_attacks(defence: carso.CARSO, batch: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(NoGradientError, match=r"attack `defence\.differentiable\(\)` instead"):
        carso.attacks.pgd(defence, *batch, carso.Budget("Linf", EPS), steps=2)
    found = carso.attacks.pgd(defence.differentiable(), *batch, carso.Budget("Linf", EPS), steps=2)
    assert (found - batch[0]).abs().max() <= EPS
