from __future__ import annotations

import copy
import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carso.attacks import pgd
from carso.errors import ModelError
from carso.fast import faster, portions, pullback
from carso.fast.convolutions import Opening
from carso.fast.network import Network, network, reading
from carso.nn import ResNet
from carso.types import Budget

IMAGES = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def lived(model: nn.Module) -> nn.Module:
    """The model in eval mode, its batch norms as if they had seen something."""
    torch.manual_seed(0)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for value, low, high in ((layer.running_mean, -0.3, 0.3), (layer.running_var, 0.5, 2.0)):
                value.uniform_(low, high)
            if layer.affine:
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.uniform_(layer.bias, -0.5, 0.5)
    return model.eval()


class Branching(nn.Module):
    """A shared convolution, a functional activation, a convolution that two layers read, and control flow."""

    def __init__(self, branches: bool) -> None:
        super().__init__()
        self.first, self.shared = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.norm, self.other = nn.BatchNorm2d(8), nn.BatchNorm2d(8, affine=False)
        self.logits, self.branches = nn.Linear(8, 5), branches

    def forward(self, images: Tensor) -> Tensor:
        h = self.shared(torch.relu(self.shared(self.first(images))))
        h = F.relu(self.norm(h), inplace=not self.branches) + self.other(h)
        if self.branches and h.sum() > 1e9:
            h = 2 * h
        return self.logits(h.mean((2, 3)))


class Viewing(nn.Sequential):
    """Flattens as people did before there was `flatten`."""

    def forward(self, images: Tensor) -> Tensor:
        maps, logits = self
        h = torch.relu(maps(images))
        return logits(h.view(h.size(0), -1))


MODELS = {
    "viewing": Viewing(nn.Conv2d(3, 8, 3), nn.Linear(1568, 5)),
    "resnet": ResNet((3, 16, 16), 5, width=8, blocks=(1, 1)),
    "wide": ResNet((3, 16, 16), 5, width=16, blocks=(1, 1), stem=4, activation="silu"),
    "norm behind": nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(1568, 5)
    ),
    "traced": Branching(branches=False),
    "untraceable": Branching(branches=True),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_exact_form_answers_as_the_model(name: str) -> None:
    model = lived(copy.deepcopy(MODELS[name]))
    form = network(model, IMAGES)
    assert form is not None
    torch.testing.assert_close(form.exact(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("name", "norms"), [("norm behind", 0), ("traced", 0), ("untraceable", 2)])
def test_norms_vanish_where_the_network_can_be_traced(name: str, norms: int) -> None:
    form = network(lived(copy.deepcopy(MODELS[name])), IMAGES)
    assert form is not None
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in form.exact.modules()) == norms


@pytest.mark.parametrize("name", MODELS)
def test_rounding_keeps_the_direction_of_the_gradient(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.fast.network.product_dtype", lambda _: torch.bfloat16)
    model = lived(copy.deepcopy(MODELS[name]))
    form = network(model, IMAGES)
    assert form is not None
    assert form(IMAGES).dtype is torch.float32
    assert not torch.equal(form(IMAGES), form.exact(IMAGES))
    slope = torch.randn(24, 5, generator=torch.Generator().manual_seed(1))
    gradients = []
    for each in (form, model):
        at = pullback(each, IMAGES)
        at.logits(torch.zeros_like(IMAGES))
        gradients.append(at.gradient(slope).flatten(1))
    assert F.cosine_similarity(*gradients).min() > 0.95


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_first_convolution_is_one_that_processors_multiply_fast(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("carso.fast.network.product_dtype", lambda _: dtype)
    form = network(lived(copy.deepcopy(MODELS["norm behind"])), IMAGES)
    assert form is not None
    for whole, expected in ((form.exact, torch.float32), (form.low, dtype)):
        openings = [layer for layer in whole.modules() if isinstance(layer, Opening)]
        assert [opening.weight.dtype for opening in openings] == [expected]


def test_the_model_is_left_alone_and_its_weights_are_those_of_the_moment() -> None:
    model = lived(ResNet((3, 16, 16), 5, width=8, blocks=(1, 1)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = network(model, IMAGES)
    assert first is not None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    with torch.no_grad():
        model.logits.weight.mul_(2)
    assert not torch.allclose(first.exact(IMAGES), model(IMAGES), atol=1e-2)


def hooked() -> nn.Module:
    model = lived(ResNet((3, 16, 16), 5, width=8, blocks=(1,)))
    model.stem.register_forward_hook(lambda *_: None)
    return model


NO_NETWORK = {
    "function": lambda images: images.flatten(1),
    "no convolution": nn.Sequential(nn.Flatten(), nn.Linear(768, 5)).eval(),
    "train mode": ResNet((3, 16, 16), 5, width=8, blocks=(1,)).train(),
    "double precision": ResNet((3, 16, 16), 5, width=8, blocks=(1,)).double().eval(),
    "hooked": hooked(),
}


@pytest.mark.parametrize("name", NO_NETWORK)
def test_anything_else_has_no_such_form(name: str) -> None:
    assert network(NO_NETWORK[name], IMAGES) is None


def test_a_network_that_is_not_what_its_layers_say_is_used_as_it_is() -> None:
    model = lived(ResNet((3, 16, 16), 5, width=8, blocks=(1,)))
    assert isinstance(faster(model, IMAGES), Network)
    own = model.forward
    model.forward = lambda images: -own(images)
    assert faster(model, IMAGES) is model
    with pytest.raises(ModelError, match="a network with convolutions"):
        faster(model, IMAGES, True)


def test_batches_are_cut_to_the_cache() -> None:
    form = faster(lived(ResNet((3, 16, 16), 5, width=8, blocks=(1,))), IMAGES)
    assert portions(form, IMAGES.repeat(50, 1, 1, 1)) > 1
    assert portions(form, IMAGES[:1]) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attacks_are_as_strong(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.fast.network.product_dtype", lambda _: dtype)
    torch.manual_seed(0)
    model = lived(ResNet((3, 16, 16), 5, width=8, blocks=(1, 1)))
    images = torch.rand(200, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        labels = model(images).argmax(1)
    budget, left = Budget("Linf", 0.04), []
    for fast in (True, False):
        generator = torch.Generator().manual_seed(0)
        found = pgd(model, images, labels, budget, generator=generator, fast=fast)
        with torch.no_grad():
            left.append((model(found).argmax(1) == labels).float().mean().item())
    assert 0.1 < left[1] < 0.9
    assert abs(left[0] - left[1]) <= 0.03


class Attending(nn.Module):
    """Weights that are in no layer of their own: those of attention, and a parameter of the root."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.attention = nn.Conv2d(3, 8, 4, 4), nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Parameter(torch.randn(8, 5))

    def forward(self, images: Tensor) -> Tensor:
        seen = self.patches(images).flatten(2).mT
        found: Tensor = self.attention(seen, seen, seen, need_weights=False)[0].mean(1) @ self.last
        return found


def test_weights_that_no_layer_holds_leave_the_network_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.fast.network.product_dtype", lambda _: torch.bfloat16)
    model = Attending().eval()
    form = network(model, IMAGES)
    assert form is not None
    assert form.low is form.exact
    torch.testing.assert_close(form(IMAGES), model(IMAGES), rtol=1e-4, atol=1e-4)


class Tossing(nn.Module):
    """Doubles its maps or not, by the toss of a coin that does not look at the image."""

    def __init__(self, toss: Callable[[], float]) -> None:
        super().__init__()
        self.conv, self.logits, self.toss = nn.Conv2d(3, 4, 3), nn.Linear(4, 5), toss

    def forward(self, images: Tensor) -> Tensor:
        h = self.conv(images)
        if self.toss() < 0.5:
            h = 2 * h
        return self.logits(h.mean((2, 3)))


@pytest.mark.parametrize(
    ("toss", "found"),
    [
        (lambda: float(torch.rand(())), False),
        (lambda: float(np.random.rand()), False),
        (random.random, False),
        (lambda: 0.0, True),
    ],
)
def test_chance_is_not_frozen_into_a_trace(
    toss: Callable[[], float], found: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("threading.active_count", lambda: 1)
    model = Tossing(toss).eval()
    ours, array = torch.get_rng_state(), str(np.random.get_state())
    assert (reading(model, ("conv",), IMAGES) is not None) == found
    assert torch.equal(torch.get_rng_state(), ours)
    assert str(np.random.get_state()) == array
