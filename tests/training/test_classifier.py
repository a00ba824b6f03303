"""The losses of stage 1, against their closed forms."""

import pytest
import torch
import torch.nn.functional as F

from carso.data import Dataset
from carso.nn import MLP
from carso.training.classifier import ClassifierStage, divergence
from carso.training.recipe import AttackSpec, ClassifierTraining

CPU = torch.device("cpu")


def dataset(n: int = 24) -> Dataset:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % 3
    return Dataset("some", torch.rand(n, 1, 4, 4, generator=generator), labels, tuple("abc"))


def stage(**fields: object) -> ClassifierStage:
    torch.manual_seed(0)
    schedule = ClassifierTraining(epochs=1, rate=0.1, **fields)
    module = MLP((1, 4, 4), (8,), classes=3, dropout=0.0).eval()
    return ClassifierStage("n", module, schedule, dataset(), dataset(), CPU)


def loss(stage: ClassifierStage) -> torch.Tensor:
    """Of all its images at once."""
    return stage.loss(stage.train.images, torch.arange(len(stage.train)), 0)


def test_divergence_is_that_of_distributions() -> None:
    p, q = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)), torch.randn(5, 4)
    known = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=p), torch.distributions.Categorical(logits=q)
    )
    torch.testing.assert_close(divergence(p.log_softmax(1), q), known)


@pytest.mark.parametrize("attack", ["pgd", "annealed", "n-fgsm"])
def test_trades_is_the_clean_loss_and_beta_times_the_divergence(attack: str) -> None:
    spec = AttackSpec(attack=attack, eps=0.1, steps=3)
    losses = {}
    for beta in (1.0, 3.0):
        torch.manual_seed(2)
        losses[beta] = loss(stage(attacks=(spec,), trades=beta))
    torch.manual_seed(2)
    plain = stage(attacks=(spec,), trades=1.0)
    clean = F.cross_entropy(plain.module(plain.train.images), plain.labels)
    drawn = (losses[3.0] - losses[1.0]) / 2
    assert drawn > 0
    torch.testing.assert_close(losses[1.0] - drawn, clean)


def test_the_attacks_of_trades_raise_the_divergence_above_that_of_noise() -> None:
    torch.manual_seed(3)
    noise, pgd = (
        loss(stage(attacks=(AttackSpec(attack=attack, eps=0.1, steps=10),), trades=1.0)) for attack in ("noise", "pgd")
    )
    assert pgd > noise


def test_trades_learns() -> None:
    spec = AttackSpec(attack="pgd", eps=0.05, steps=3)
    ours = stage(attacks=(spec,), trades=6.0)
    optimiser = torch.optim.SGD(ours.module.parameters(), 0.5)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        value = loss(ours)
        value.backward()
        optimiser.step()
        losses.append(value.item())
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_clean_training_folds_nothing() -> None:
    attacked, clean = stage(attacks=(AttackSpec(attack="fgsm", eps=0.1),)), stage(attacks=())
    for each in (attacked, clean):
        each.begin(0)
    assert attacked.folds
    assert not clean.folds
