from __future__ import annotations

import pytest
import torch
from tests.rivals.conftest import CLASSES, CPU, SHAPE, accuracy, bars, dataset
from torch import nn

from carso.errors import ModelError
from carso.nn import MLP, ResNet
from carso.rivals import WinnersTakeAll
from carso.rivals.winners import BlendedWinners, Winners
from carso.training.classifier import ClassifierStage
from carso.training.loop import beginning, fit
from carso.training.recipe import ClassifierTraining


@pytest.mark.parametrize(("gamma", "winners"), [(0.1, 6), (0.01, 1), (0.5, 32), (0.99, 63)])
@pytest.mark.parametrize("kind", [Winners, BlendedWinners])
def test_as_many_win_as_are_to(kind: type[Winners], gamma: float, winners: int) -> None:
    a = torch.randn(5, 4, 4, 4)
    out = kind(gamma)(a)
    assert ((out != 0).flatten(1).sum(1) == winners).all()
    kept = a.flatten(1).sort(1, descending=True).values[:, :winners]
    assert torch.allclose(out.flatten(1).sort(1, descending=True).values.sum(1), kept.sum(1), atol=1e-5)
    assert torch.allclose(out[out != 0], a[out != 0], atol=1e-6)


@pytest.mark.parametrize(
    ("gamma", "neurons", "winners"), [(0.29, 100, 29), (0.57, 100, 57), (0.1, 784, 78), (0.1, 9, 1)]
)
def test_the_share_is_that_of_its_decimals(gamma: float, neurons: int, winners: int) -> None:
    assert Winners(gamma).k(neurons) == winners


def test_of_equal_activations_no_more_win() -> None:
    assert ((Winners(0.25)(torch.ones(3, 8)) != 0).sum(1) == 2).all()


def test_only_winners_have_a_gradient_and_blended_ones_share_it() -> None:
    a = torch.randn(4, 20).requires_grad_()
    hard, soft = (torch.autograd.grad(kind(0.2)(a).sum(), a)[0] for kind in (Winners, BlendedWinners))
    assert torch.equal(hard, (Winners(0.2)(a) != 0).float())
    assert ((soft != 0).sum(1) > 4).all()
    blend = Winners(0.2)(a).detach()
    assert soft[blend != 0].mean() > soft[blend == 0].abs().mean()


@pytest.mark.parametrize("gamma", [0.0, 1.0, -0.1])
def test_gamma_is_a_share(gamma: float) -> None:
    with pytest.raises(ValueError, match="gamma"):
        Winners(gamma)


@pytest.mark.parametrize(
    "network", [MLP(SHAPE, (20, 10), CLASSES), ResNet(SHAPE, CLASSES, 4, (1, 1), mean=(0.0,), std=(1.0,))]
)
def test_every_activation_is_replaced_in_a_copy(network: nn.Module) -> None:
    before = [type(module) for module in network.modules()]
    rival = WinnersTakeAll(network, 0.2)
    assert [type(module) for module in network.modules()] == before
    kinds = [type(module) for module in rival.network.modules()]
    assert nn.Mish not in kinds
    assert nn.ReLU not in kinds
    assert kinds.count(Winners) == before.count(nn.Mish) + before.count(nn.ReLU)


def test_the_surrogate_answers_alike_with_another_gradient() -> None:
    torch.manual_seed(0)
    rival = WinnersTakeAll(MLP(SHAPE, (40,), CLASSES), 0.1).eval()
    images = bars(8, 0)[0].requires_grad_()
    hard, soft = rival(images), rival.surrogate(images)
    assert torch.allclose(hard, soft, atol=1e-5)
    slopes = [torch.autograd.grad(logits[:, 0].sum(), images)[0] for logits in (hard, soft)]
    assert not torch.allclose(*slopes)


def test_the_surrogate_has_the_weights_of_the_moment() -> None:
    rival = WinnersTakeAll(MLP(SHAPE, (40,), CLASSES), 0.1).eval()
    images, _ = bars(8, 0)
    rival.surrogate(images)
    with torch.no_grad():
        rival.network.logits.weight.mul_(2)
    assert torch.allclose(rival(images), rival.surrogate(images), atol=1e-5)
    assert len(list(rival.parameters())) == len(list(MLP(SHAPE, (40,), CLASSES).parameters()))


def test_it_is_trained_like_any_classifier() -> None:
    with beginning(0, "winners"):
        rival = WinnersTakeAll(MLP(SHAPE, (40,), CLASSES), 0.2)
    training = ClassifierTraining(epochs=8, batch=64, rate=0.02)
    fit(ClassifierStage("winners", rival, training, dataset(), dataset(64, 3), CPU), 0, "f")
    assert accuracy(rival) > 0.9


def test_a_network_without_activations_is_refused() -> None:
    with pytest.raises(ModelError, match="activation"):
        WinnersTakeAll(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))


def test_an_activation_that_is_used_twice_is_replaced_in_both_places() -> None:
    act = nn.ReLU()
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 12), act, nn.Linear(12, 12), act, nn.Linear(12, 3))
    winners = WinnersTakeAll(network, 0.25).network
    assert [type(layer) for layer in winners if not isinstance(layer, nn.Linear | nn.Flatten)] == [Winners, Winners]
    assert network[2] is act
