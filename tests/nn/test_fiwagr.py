from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from carso.data import Dataset
from carso.defence import CARSO
from carso.errors import ModelError
from carso.fast import faster
from carso.fast.surrogate import FastDefence
from carso.nn import MLP
from carso.nn.fiwagr import FiWAGR, paths, randomised
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.representation import Representation
from carso.training.loop import fit
from carso.training.purifier import PurifierStage
from carso.training.recipe import AttackSpec, PurifierTraining


def handed_back(a: Tensor, weights: Tensor, seed: int, sigma: float = 1.0) -> Tensor:
    """dL/da of L = sum of (FiWAGR(a) W)^2."""
    a = a.clone().requires_grad_()
    loss = (FiWAGR(sigma).eval()(a) @ weights).square().sum()
    torch.manual_seed(seed)
    return torch.autograd.grad(loss, a)[0]


@pytest.fixture
def activations() -> Tensor:
    return torch.randn(64, 50, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("training", [False, True])
def test_forward_is_the_identity(activations: Tensor, training: bool) -> None:
    assert torch.equal(FiWAGR().train(training)(activations), activations)


def test_the_gradient_is_independent_of_the_weights_behind(activations: Tensor) -> None:
    generator = torch.Generator().manual_seed(1)
    one, other = torch.randn(2, 50, 3, generator=generator)
    assert torch.equal(handed_back(activations, one, seed=0), handed_back(activations, 1e6 * other, seed=0))
    assert torch.equal(handed_back(activations, one, seed=0), handed_back(activations, 0 * one, seed=0))


def test_the_gradient_is_new_in_every_pass_and_never_vanishes(activations: Tensor) -> None:
    first, second = (handed_back(activations, torch.ones(50, 1), seed) for seed in (0, 1))
    assert (first != second).any(1).all()
    assert (first.abs().sum(1) > 0).all()


def test_the_gradient_is_zero_in_expectation_with_the_variance_asked_for(activations: Tensor) -> None:
    passes = torch.stack([handed_back(activations, torch.ones(50, 1), seed, sigma=2.0) for seed in range(400)])
    error = 2.0 / passes.shape[0] ** 0.5
    assert passes.mean(0).abs().max() < 5 * error
    assert abs(float(passes.mean())) < 5 * 2.0 / passes.numel() ** 0.5
    assert float(passes.std()) == pytest.approx(2.0, rel=0.01)


def test_it_is_uncorrelated_with_the_true_gradient(activations: Tensor) -> None:
    a = activations.clone().requires_grad_()
    true = torch.autograd.grad((a @ torch.ones(50, 1)).square().sum(), a)[0]
    cosines = [
        torch.cosine_similarity(handed_back(activations, torch.ones(50, 1), seed), true, dim=1) for seed in range(50)
    ]
    assert abs(float(torch.cat(cosines).mean())) < 5 / (50 * 64 * 50) ** 0.5


def test_in_train_mode_gradients_pass(activations: Tensor) -> None:
    a = activations.clone().requires_grad_()
    assert torch.equal(torch.autograd.grad(FiWAGR().train()(a).square().sum(), a)[0], 2 * activations)


def test_sigma_must_be_positive() -> None:
    with pytest.raises(ValueError, match="sigma"):
        FiWAGR(0.0)


def dense() -> CARSO:
    torch.manual_seed(0)
    classifier = MLP((1, 4, 4), (8,), 3).eval()
    return CARSO(classifier, Purifier((1, 4, 4), 11, latent=2).eval(), samples=5)


def convolutional() -> CARSO:
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3)).eval()
    shapes = Representation(classifier, ["1"]).shapes(torch.zeros(1, 3, 8, 8))["1"]
    return CARSO(classifier, ConvolutionalPurifier((3, 8, 8), shapes, latent=2, code=4), layers=["1"], samples=5)


def gradient(defence: CARSO | FastDefence, images: Tensor, seed: int) -> Tensor:
    x, latents = images.clone().requires_grad_(), torch.ones(2, 2)
    torch.manual_seed(seed)
    return torch.autograd.grad(defence.logits(x, latents=latents)[..., 0].sum(), x)[0]


@pytest.mark.parametrize("make", [dense, convolutional])
@pytest.mark.parametrize("path", ["representation", "decoder"])
def test_in_the_paths_of_a_defence(make: Callable[..., Any], path: str) -> None:
    defence = make()
    images = torch.rand(4, *defence.purifier.shape)
    latents = defence.latents(2, torch.Generator().manual_seed(0))
    answers, true = defence.logits(images, latents=latents), gradient(defence, images, 0)
    votes = defence.votes(images, torch.Generator().manual_seed(0))
    handle = randomised(defence.purifier.maps if path == "representation" else defence.purifier.decoder[-1])
    assert torch.equal(defence.logits(images, latents=latents), answers)
    assert torch.equal(defence.votes(images, torch.Generator().manual_seed(0)), votes)
    passes = [gradient(defence, images, seed) for seed in range(3)]
    assert all(not torch.allclose(one, other) for one, other in pairwise([true, *passes]))
    quick = faster(defence, images)
    assert not torch.equal(gradient(quick, images, 0), gradient(quick, images, 1))
    handle.remove()
    assert torch.equal(gradient(defence, images, 1), true)


@pytest.mark.parametrize("layer", [0, 1, -1])
@pytest.mark.parametrize("make", [dense, convolutional])
def test_before_any_layer_of_the_decoder_gradients_are_noise(make: Callable[[], CARSO], layer: int) -> None:
    defence = make()
    images = torch.rand(4, *defence.purifier.shape)
    randomised(defence.purifier.decoder[layer])
    assert not torch.equal(gradient(defence, images, 0), gradient(defence, images, 1))


def test_where_nothing_is_called_it_is_refused() -> None:
    for whole in ("purifier", "purifier.decoder"):
        defence = dense()
        randomised(defence.get_submodule(whole))
        with pytest.raises(ModelError, match="FiWAGR"):
            defence.logits(torch.rand(2, 1, 4, 4), latents=torch.ones(2, 2))


def learnt(purifier: Purifier) -> Tensor:
    torch.manual_seed(1)
    reconstructions, _, _ = purifier(torch.rand(4, 1, 4, 4), torch.rand(4, 11))
    reconstructions.square().sum().backward()
    assert purifier.decoder[0].weight.grad is not None
    return purifier.decoder[0].weight.grad


def test_a_purifier_learns_before_it_as_ever() -> None:
    plain, layered = dense().purifier.train(), dense().purifier.train()
    randomised(layered.decoder[-1])
    assert torch.equal(learnt(plain), learnt(layered))


def trained(layered: bool, aim: Literal["classifier", "defence"]) -> Tensor:
    """A purifier's weights after one step, with the layer in both paths or without."""
    defence, images = dense(), torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    if layered:
        randomised(defence.purifier.maps)
        randomised(defence.purifier.decoder[-1])
    attack = AttackSpec(attack="pgd", eps=0.3, steps=3, alpha=0.1, directed_at=aim)
    schedule = PurifierTraining(epochs=1, batch=16, rate=0.01, feed="fresh", attacks=(attack,))
    data, device = Dataset("grains", images, None, ()), torch.device("cpu")
    fit(PurifierStage("p", defence.representation, defence.purifier, schedule, data, data, 1, device), 0, "f")
    return nn.utils.parameters_to_vector(defence.purifier.parameters())


def test_a_training_whose_attacks_are_on_n_is_the_same_with_it() -> None:
    assert torch.equal(trained(False, "classifier"), trained(True, "classifier"))


def test_a_training_whose_attacks_are_on_the_whole_follows_noise() -> None:
    assert not torch.equal(trained(False, "defence"), trained(True, "defence"))


def test_no_gradient_passes_however_the_input_is_handed_over() -> None:
    class Sum(nn.Module):
        def forward(self, x: Any) -> Tensor:
            return 2 * (x if isinstance(x, Tensor) else sum(x))

    module = Sum().eval()
    randomised(module)
    for handed in (lambda a: module(a), lambda a: module(x=a), lambda a: module((a, a)), lambda a: module(x=[a, a])):
        a = torch.ones(50, requires_grad=True)
        handed(a).sum().backward()
        assert a.grad is not None
        assert a.grad.unique().numel() == 50


def test_the_paths_that_it_stands_in_are_known_until_it_is_taken_out() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    handle = randomised(network[1], 0.5)
    assert paths(network) == [("1", 0.5)]
    handle.remove()
    assert paths(network) == []
