from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.defence import CARSO
from carso.fast import faster
from carso.fast.folding import chain
from carso.fast.surrogate import FoldedDefence, fold_defence
from carso.nn import MLP
from carso.nn.maps import Maps
from carso.purifier import Purifier


def trained(module: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.normal_(layer.bias)
    return module


def defence(output: str = "logits", layers: tuple[str, ...] | None = None, contrast: float = 0.0) -> CARSO:
    torch.manual_seed(0)
    classifier = trained(MLP((1, 12, 12), (40, 30), 10, output=output, contrast=contrast))
    sizes = {"input": 144, "contrast": 144, "mish1": 40, "mish2": 30, "output": 10}
    neurons = sum(sizes[layer] for layer in layers or ("mish1", "mish2", "output"))
    purifier = trained(Purifier((1, 12, 12), neurons + 10 * (output != "logits"), latent=6))
    return CARSO(classifier, purifier, layers, samples=5)


def folded_defence_of(whole: CARSO, dtype: torch.dtype) -> FoldedDefence:
    made = fold_defence(whole.classifier, whole.purifier, whole.representation.layers, dtype)
    assert made is not None
    return made


def gradient(logits: Tensor, images: Tensor) -> Tensor:
    return torch.autograd.grad(logits.log_softmax(2)[:, :, 0].sum(), images)[0]


@pytest.mark.parametrize(
    ("output", "layers", "contrast"),
    [
        ("logits", None, 0.0),
        ("logits", ("mish2", "output"), 0.0),
        ("logits", ("mish1",), 0.0),
        ("logits", ("input", "mish2"), 0.0),
        ("mish-log-softmax", None, 0.0),
        ("logits", None, 0.3),
        ("logits", ("input", "contrast", "mish2"), 0.3),
    ],
)
def test_float32_gives_the_logits_and_gradients_of_the_defence(
    output: str, layers: tuple[str, ...] | None, contrast: float
) -> None:
    whole = defence(output, layers, contrast)
    images, latents = torch.rand(7, 1, 12, 12, requires_grad=True), torch.randn(3, 6)
    theirs = whole.logits(images, latents=latents)
    ours = folded_defence_of(whole, torch.float32)(images, latents)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradient(ours, images), gradient(theirs, images), atol=1e-4, rtol=1e-3)


def convolving() -> CARSO:
    torch.manual_seed(0)
    classifier, layers = trained(MLP((1, 12, 12), (40, 30), 10)), ("input", "mish2")
    purifier = Purifier((1, 12, 12), 174, latent=6, representation=(50, 20), maps=Maps([(1, 12, 12), (30,)], (4, 6)))
    return CARSO(classifier, trained(purifier), layers, samples=5)


def test_convolutions_of_the_representation_are_followed() -> None:
    whole, images, latents = convolving(), torch.rand(7, 1, 12, 12, requires_grad=True), torch.randn(3, 6)
    theirs = whole.logits(images, latents=latents)
    ours, rounded = (folded_defence_of(whole, dtype)(images, latents) for dtype in (torch.float32, torch.bfloat16))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    exact = gradient(theirs, images)
    torch.testing.assert_close(gradient(ours, images), exact, atol=1e-4, rtol=1e-3)
    assert torch.cosine_similarity(exact.flatten(1), gradient(rounded, images).flatten(1)).quantile(0.1) > 0.98


def test_bfloat16_points_the_same_way() -> None:
    whole = defence()
    images, latents = torch.rand(50, 1, 12, 12, requires_grad=True), torch.randn(2, 6)
    exact = gradient(whole.logits(images, latents=latents), images)
    rounded = gradient(folded_defence_of(whole, torch.bfloat16)(images, latents), images)
    assert torch.cosine_similarity(exact.flatten(1), rounded.flatten(1)).quantile(0.1) > 0.99
    assert not torch.equal(exact, rounded)


def test_every_image_may_have_latents_of_its_own() -> None:
    whole = defence()
    made, images, latents = folded_defence_of(whole, torch.float32), torch.rand(4, 1, 12, 12), torch.randn(4, 3, 6)
    each = [made(images[i : i + 1], latents[i]) for i in range(4)]
    torch.testing.assert_close(made(images, latents), torch.cat(each), atol=1e-5, rtol=1e-5)


def test_the_modules_are_left_in_their_mode() -> None:
    whole = defence()
    whole.purifier.train()
    whole.classifier.train()
    folded_defence_of(whole, torch.float32)
    assert all(m.training for m in whole.purifier.modules())
    assert all(m.training for m in whole.classifier.modules())


def test_other_classifiers_and_folded_layers_have_none() -> None:
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(200, 10))
    assert fold_defence(convolution, Purifier((1, 12, 12), 210), ("1", "3")) is None
    classifier = MLP((1, 12, 12), (40, 30))
    assert fold_defence(classifier, Purifier((1, 12, 12), 40), ("norm1",)) is None
    assert fold_defence(classifier, Purifier((1, 12, 12), 40), ("mish1",)) is not None


def test_a_layer_that_runs_twice_has_none_and_the_defence_is_taken_as_it_is() -> None:
    torch.manual_seed(0)
    twice = nn.Mish()
    linears = nn.Linear(144, 40), nn.Linear(40, 30), nn.Linear(30, 10)
    classifier = nn.Sequential(nn.Flatten(), linears[0], twice, linears[1], twice, linears[2]).eval()
    whole = CARSO(classifier, Purifier((1, 12, 12), 70, latent=6).eval(), ("2",), samples=5)
    assert fold_defence(classifier, whole.purifier, ("2",)) is None
    images, latents = torch.rand(3, 1, 12, 12), torch.randn(2, 6)
    found = faster(whole, images).logits(images, latents=latents)
    torch.testing.assert_close(found, whole.logits(images, latents=latents), atol=0.1, rtol=0.1)


@pytest.mark.parametrize("make", [defence, lambda: convolving()])
@pytest.mark.parametrize("part", ["maps", "decoder"])
def test_what_a_hook_may_change_is_not_folded(make: Callable[..., Any], part: str) -> None:
    """A hook may leave the answers as they are and change the gradient, which no comparison of answers would show."""
    whole = make()
    assert folded_defence_of(whole, torch.float32) is not None
    module = getattr(whole.purifier, part)[-1] if part == "decoder" else getattr(whole.purifier, part)
    handle = module.register_forward_pre_hook(lambda module, given: None)
    assert fold_defence(whole.classifier, whole.purifier, whole.representation.layers) is None
    handle.remove()
    assert fold_defence(whole.classifier, whole.purifier, whole.representation.layers) is not None


def test_a_chain_begins_with_an_affine_map_and_ends_with_no_batch_norm() -> None:
    linear, norm = nn.Linear(3, 3), nn.BatchNorm1d(3)
    assert chain(nn.Sequential(linear, nn.Tanh(), norm, nn.Linear(3, 2)).eval()) is not None
    assert chain(nn.Sequential(norm, linear).eval()) is None
    assert chain(nn.Sequential(linear, nn.Tanh(), norm).eval()) is None
    assert chain(nn.Sequential(linear, norm, nn.Tanh()).train()) is None
