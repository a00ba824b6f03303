"""Layers are proposed by what they are, for networks as people write them."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from carso.errors import ModelError
from carso.layers import evenly, propose
from carso.nn import MLP, Adapted, ResNet
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.representation import Representation, default_layers

GREY, COLOUR = torch.rand(1, 1, 28, 28), torch.rand(1, 3, 16, 16)
LARGE = 2**30


class Functional(nn.Module):
    """Convolutions whose non-linearities are functions, but for the last."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 5)
        self.convolutions = nn.ModuleList(nn.Conv2d(3 if i == 0 else 4, 4, 3, padding=1) for i in range(5))
        self.tanh, self.unused = nn.Tanh(), nn.Conv2d(4, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        for convolution in self.convolutions:
            images = F.relu(convolution(images))
        return self.head(self.tanh(images.mean((2, 3))))


class Sharing(nn.Module):
    """One ReLU, in place, serves every convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, stride=2, padding=1)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(256, 5)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.relu(self.second(self.relu(self.first(images)))).flatten(1))


class Attending(nn.Module):
    """A transformer's block as in Hugging Face's models: its answer is a tuple, its non-linearity of its own kind."""

    class Gelu(nn.Module):
        def forward(self, a: Tensor) -> Tensor:
            return F.gelu(a)

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value, self.out, self.act = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8), self.Gelu()

    def forward(self, tokens: Tensor) -> tuple[Tensor]:
        weights = (self.query(tokens) @ tokens.transpose(1, 2)).softmax(2)
        return (tokens + self.act(self.out(weights @ self.value(tokens))),)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.layer, self.head = nn.Conv2d(3, 8, 8, 8), nn.ModuleList(), nn.Linear(8, 5)
        self.layer.extend(Attending() for _ in range(3))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        for layer in self.layer:
            (tokens,) = layer(tokens)
        return {"logits": self.head(tokens.mean(1))}


@pytest.mark.parametrize(
    "model", [MLP(), MLP(output="mish-log-softmax"), MLP(hidden=(9,)), MLP(maps=(4, 8), hidden=(20, 10, 5))]
)
def test_perceptrons_keep_all_non_linearities(model: nn.Module) -> None:
    assert propose(model.eval(), GREY, Purifier.bound((1, 28, 28))).layers == default_layers(model)


def test_a_residual_network_gives_its_blocks() -> None:
    model = ResNet((3, 16, 16), width=4, blocks=(1, 2)).eval()
    proposal = propose(model, COLOUR, LARGE)
    assert proposal.layers == ("groups.0.0", "groups.1.0", "groups.1.1", "output")
    assert proposal.neurons == proposal.whole == 4 * 256 + 2 * 8 * 64 + 10
    assert "its 3 blocks (groups.0.0, groups.1.0, groups.1.1) and the logits" in str(proposal)


def test_blocks_that_return_tuples_are_heard() -> None:
    model = Adapted(Transformer()).eval()
    proposal = propose(model, COLOUR, LARGE)
    assert proposal.layers == ("model.layer.0", "model.layer.1", "model.layer.2", "output")
    tokens = model.model.patches(COLOUR).flatten(2).transpose(1, 2)
    _, representations = Representation(model, ["model.layer.0"])(COLOUR)
    assert torch.equal(representations, model.model.layer[0](tokens)[0].flatten(1))


def test_functional_activations_are_read_before_they_act() -> None:
    proposal = propose(Functional().eval(), COLOUR, LARGE)
    assert proposal.layers == (*(f"convolutions.{i}" for i in range(5)), "output")


def test_a_shared_module_counts_for_all_its_calls() -> None:
    model = Sharing().eval()
    assert propose(model, COLOUR, LARGE).layers == ("relu", "output")
    assert propose(model, COLOUR, LARGE).neurons == 4 * 256 + 4 * 64 + 5
    assert propose(model, COLOUR, 1100).layers == ("second", "output")


def test_compiled_networks_are_as_before() -> None:
    model = ResNet((3, 16, 16), width=4, blocks=(1, 1)).eval()
    assert propose(torch.compile(model, backend="eager"), COLOUR, LARGE) == propose(model, COLOUR, LARGE)


@pytest.mark.filterwarnings("ignore:`torch.jit")
def test_a_network_that_hides_its_layers_is_refused_in_a_sentence() -> None:
    model = ResNet((3, 16, 16), width=4, blocks=(1, 1)).eval()
    exported = torch.export.export(model, (torch.rand(2, 3, 16, 16),), dynamic_shapes=({0: torch.export.Dim("b")},))
    for hiding in (torch.jit.trace(model, COLOUR), exported.module(check_guards=False)):
        with pytest.raises(ModelError, match="give the module that it was made from; else name the layers"):
            propose(hiding, COLOUR, LARGE)


@pytest.mark.parametrize("most", [10, 700, 1600, 2700, 3000])
def test_the_bound_holds_and_the_choice_is_said(most: int) -> None:
    model = ResNet((3, 16, 16), width=4, blocks=(2, 2)).eval()
    proposal = propose(model, COLOUR, most)
    assert proposal.layers[-1] == "output"
    assert sum(Representation(model, proposal.layers).sizes(COLOUR).values()) == proposal.neurons <= max(most, 10)
    assert f"{len(proposal.layers) - 1} of 4 blocks" in str(proposal) or proposal.layers == ("output",)
    assert f"all 4 would be {proposal.whole:,}, over the bound of {most:,}" in str(proposal)
    assert proposal == propose(model, COLOUR, most)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=20), st.integers(0, 60))
def test_as_many_as_fit_are_spread_evenly_and_end_with_the_last(sizes: list[int], most: int) -> None:
    chosen = [int(name) for name in evenly({str(i): size for i, size in enumerate(sizes)}, most)]
    assert sum(sizes[i] for i in chosen) <= most
    if not chosen:
        assert sizes[-1] > most
        return
    gaps = [b - a for a, b in zip([-1, *chosen], chosen, strict=False)]
    assert chosen[-1] == len(sizes) - 1
    assert max(gaps) - min(gaps) <= 1
    assert len(chosen) == len(sizes) or sum(sizes) > most


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 224, 224), (1, 64, 48)])
def test_the_bound_grows_with_the_image_for_convolutions_alone(shape: tuple[int, int, int]) -> None:
    assert Purifier.bound(shape) == Purifier.bound((1, 28, 28))
    larger = (shape[0], 8 * shape[1], 8 * shape[2])
    assert Purifier.bound(larger) == Purifier.bound(shape)
    assert ConvolutionalPurifier.bound(larger) > ConvolutionalPurifier.bound(shape) >= 8 * math.prod(shape)
