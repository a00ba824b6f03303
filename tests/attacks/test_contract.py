"""What every attack holds to, whatever model, labels, dtype or device it meets."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from carso.attacks import ATTACKS, confine
from carso.attacks.bpda import straight_through
from carso.attacks.deepfool import minimal_perturbation, perturb
from carso.attacks.eot import Expectation, calls
from carso.attacks.gradient import ascend, input_gradient
from carso.attacks.losses import cross_entropy, margin
from carso.errors import ModelError, NoGradientError
from carso.types import Budget

Batch = tuple[Tensor, Tensor]
Model = Callable[[Tensor], Tensor]
OPTIONS: dict[str, dict[str, Any]] = {
    "pgd": {"steps": 4, "restarts": 2},
    "deepfool": {"steps": 6},
    "apgd": {"steps": 4, "restarts": 2},
    "pgd-eot": {"steps": 4, "restarts": 2},
    "square": {"queries": 10},
    "spsa": {"steps": 2, "directions": 2},
    "noise": {"draws": 3},
}
BY_GRADIENT = ["fgsm", "pgd", "deepfool", "apgd", "pgd-eot"]
TARGETED = ["fgsm", "pgd", "apgd", "pgd-eot", "spsa"]
NORMS = [("Linf", 0.08), ("L2", 0.7)]


def run(name: str, model: Model, batch: Any, norm: Any = "Linf", eps: float = 0.08, **more: Any) -> Tensor:
    generator = torch.Generator("cpu").manual_seed(0)
    found: Tensor = ATTACKS[name](model, *batch, Budget(norm, eps), generator=generator, **OPTIONS.get(name, {}) | more)
    return found


def plain(network: nn.Module) -> Model:
    return lambda images: network(images)


@pytest.mark.parametrize("name", ATTACKS)
class TestTheCallersTensors:
    def test_a_model_that_writes_into_its_input_harms_nobody(self, name: str, network: nn.Module, batch: Batch) -> None:
        def writing(images: Tensor) -> Tensor:
            logits: Tensor = network(images.clone())
            images.zero_()
            return logits

        images, labels = batch[0].clone(), batch[1].clone()
        assert torch.equal(run(name, writing, (images, labels)), run(name, plain(network), batch))
        assert torch.equal(images, batch[0])
        assert torch.equal(labels, batch[1])

    def test_a_model_that_normalises_in_place_has_the_gradient_of_one_that_does_not(
        self, name: str, network: nn.Module, batch: Batch
    ) -> None:
        def in_place(images: Tensor) -> Tensor:
            logits: Tensor = network(images.mul_(0.5).add_(0.1))
            return logits

        def aside(images: Tensor) -> Tensor:
            logits: Tensor = network(images.mul(0.5).add(0.1))
            return logits

        assert torch.equal(run(name, in_place, batch), run(name, aside, batch))

    def test_results_hang_on_no_graph(self, name: str, network: nn.Module, batch: Batch) -> None:
        images = batch[0].clone().requires_grad_()
        found = run(name, network, (images, batch[1]))
        assert not found.requires_grad
        assert found.grad_fn is None
        assert images.grad is None

    @pytest.mark.parametrize("kind", [Tensor.tolist, Tensor.numpy, Tensor.int, lambda y: y.numpy().astype(np.uint8)])
    def test_labels_may_be_lists_and_arrays(self, name: str, kind: Any, network: nn.Module, batch: Batch) -> None:
        assert torch.equal(run(name, network, (batch[0], kind(batch[1]))), run(name, network, batch))


def test_helpers_hang_on_no_graph(network: nn.Module, batch: Batch) -> None:
    images, budget = batch[0].clone().requires_grad_(), Budget("L2", 0.5)
    moved = minimal_perturbation(network, images, batch[1], "L2", steps=3)
    for found in (moved, perturb(images, moved, budget), confine(images + 0.1, images, budget)):
        assert not found.requires_grad
    assert not input_gradient(network, images, batch[1], margin).requires_grad


@pytest.mark.parametrize(
    "labels", [["seven"] * 200, [1.5] * 200, None, [[1, 2], [3]], np.array(["a"] * 200), [1] * 199, [10] * 200]
)
def test_other_labels_are_refused_in_a_sentence(labels: Any, network: nn.Module, batch: Batch) -> None:
    with pytest.raises(ValueError, match="labels must"):
        run("fgsm", network, (batch[0], labels))


class TestOutsideOfAttacks:
    """Whoever asks a model by itself does so on a copy, too."""

    @staticmethod
    def writing(network: nn.Module) -> Model:
        def model(images: Tensor) -> Tensor:
            logits: Tensor = network(images.clone())
            images.zero_()
            return logits

        return model

    def test_the_inner_loop(self, network: nn.Module, batch: Batch) -> None:
        images, labels = batch[0].clone(), batch[1]
        go = partial(ascend, labels=labels, eps=0.1, alpha=0.05, steps=2, loss=cross_entropy)
        found, expected = (go(model, images, start=images) for model in (self.writing(network), plain(network)))
        assert torch.equal(found, expected)
        assert torch.equal(images, batch[0])

    def test_a_gradient(self, network: nn.Module, batch: Batch) -> None:
        images = batch[0].clone()
        found, expected = (input_gradient(m, images, batch[1], margin) for m in (self.writing(network), plain(network)))
        assert torch.equal(found, expected)
        assert torch.equal(images, batch[0])

    def test_several_calls(self, network: nn.Module, batch: Batch) -> None:
        images = batch[0].clone()
        found = Expectation(calls(self.writing(network)), 3)(images)
        torch.testing.assert_close(found, network(batch[0]).log_softmax(1))
        assert torch.equal(images, batch[0])

    def test_straight_through(self, network: nn.Module, batch: Batch) -> None:
        images = batch[0].clone()
        found = straight_through(lambda x: x.mul_(0.5), self.writing(network))(images)
        torch.testing.assert_close(found, network(batch[0] / 2))
        assert torch.equal(images, batch[0])


class Jpeg(nn.Module):
    """A front end through numpy, and a network behind it whose weights have gradients."""

    def __init__(self, network: nn.Module, detach: bool) -> None:
        super().__init__()
        self.network, self.detach = network, detach

    def forward(self, images: Tensor) -> Tensor:
        pixels = (images.detach() if self.detach else images).numpy()
        logits: Tensor = self.network(torch.from_numpy(np.round(pixels * 32) / 32))
        return logits


class Sealed(nn.Module):
    """A front end in inference mode."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.inference_mode():
            rounded = (images * 32).round() / 32
        logits: Tensor = self.network(rounded)
        return logits


@pytest.fixture(params=["detached", "numpy", "inference mode"])
def opaque(request: pytest.FixtureRequest, network: nn.Module) -> nn.Module:
    assert any(p.requires_grad for p in network.parameters())
    return Sealed(network) if request.param == "inference mode" else Jpeg(network, request.param == "detached")


@pytest.mark.parametrize("name", BY_GRADIENT)
def test_a_front_end_without_gradient_says_so(name: str, opaque: nn.Module, batch: Batch) -> None:
    with pytest.raises(NoGradientError, match="attack it with 'square' or 'spsa'"):
        run(name, opaque, batch)


def test_its_gradient_says_so(opaque: nn.Module, batch: Batch) -> None:
    with pytest.raises(NoGradientError):
        input_gradient(opaque, *batch, margin)


@pytest.mark.parametrize("name", ["square", "spsa", "noise"])
def test_it_can_be_attacked_without_gradient(name: str, opaque: nn.Module, batch: Batch) -> None:
    assert not torch.equal(run(name, opaque, batch), batch[0])


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


SURROUNDINGS: dict[str, Any] = {
    "float64": partial(default_dtype, torch.float64),
    "bfloat16": partial(default_dtype, torch.bfloat16),
    "another device": partial(torch.device, "meta"),
}


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize("surroundings", SURROUNDINGS)
@pytest.mark.parametrize("name", ATTACKS)
def test_default_dtype_and_device_change_nothing(
    name: str, surroundings: str, norm: Any, eps: float, network: nn.Module, batch: Batch
) -> None:
    expected = [run(name, model, batch, norm, eps) for model in (network, plain(network))]
    with SURROUNDINGS[surroundings]():
        found = [run(name, model, batch, norm, eps) for model in (network, plain(network))]
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


class Answering(nn.Module):
    """The network, whose answer is in another dtype, and so its arithmetic if its weights are."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits.to(self.dtype)


@pytest.mark.parametrize(("norm", "eps"), NORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ATTACKS)
def test_models_may_answer_in_another_dtype(
    name: str, dtype: torch.dtype, norm: Any, eps: float, network: nn.Module, batch: Batch
) -> None:
    found = run(name, Answering(network, dtype), batch, norm, eps)
    expected = run(name, plain(network), batch, norm, eps)
    assert found.dtype == torch.float32
    left = [(network(x).argmax(1) == batch[1]).float().mean() for x in (found, expected)]
    assert abs(left[0] - left[1]) <= 0.05


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ATTACKS)
def test_models_may_compute_in_another_dtype(name: str, dtype: torch.dtype, network: nn.Module, batch: Batch) -> None:
    expected = run(name, plain(network), batch)
    found = run(name, copy.deepcopy(network).to(dtype), batch)
    assert found.dtype == torch.float32
    left = [(network(x).argmax(1) == batch[1]).float().mean() for x in (found, expected)]
    assert abs(left[0] - left[1]) <= 0.05


class Parity(nn.Module):
    """Two classes: of an even and of an odd one of the network's."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits = self.network(images)
        return torch.stack([logits[:, ::2].logsumexp(1), logits[:, 1::2].logsumexp(1)], dim=1)


LONGER: dict[str, dict[str, Any]] = {"square": {"queries": 150}, "spsa": {"steps": 10, "directions": 16}}
AIMS = [*((name, False) for name in [*BY_GRADIENT, "square", "spsa"]), *((name, True) for name in TARGETED)]


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.15), ("L2", 1.5)])
@pytest.mark.parametrize(("name", "targeted"), AIMS)
def test_two_classes_are_enough(
    name: str, targeted: bool, norm: Any, eps: float, network: nn.Module, batch: Batch
) -> None:
    model, images = Parity(network), batch[0]
    own = model(images).argmax(1)
    assert 0.2 < own.float().mean() < 0.8
    options = ({"targeted": True} if targeted else {}) | LONGER.get(name, {})
    found = run(name, model, (images, 1 - own if targeted else own), norm, eps, **options)
    assert (model(found).argmax(1) != own).float().mean() > 0.1


@pytest.mark.parametrize("name", ["pgd", "apgd", "square"])
def test_the_dlr_loss_of_two_classes_is_refused(name: str, network: nn.Module, batch: Batch) -> None:
    with pytest.raises(ModelError, match="needs at least 3 classes"):
        run(name, Parity(network), (batch[0], batch[1] % 2), loss="dlr")


def test_a_train_mode_module_behind_a_function_keeps_its_statistics(batch: Batch) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 5), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(192, 10)).train()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    run("pgd", lambda images: module(images), batch)
    assert all(layer.training for layer in module.modules())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_a_function_around_a_network_that_is_in_training_gets_no_batch_of_one(attack: str) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)).train()
    images, labels = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    found = ATTACKS[attack](lambda seen: network(seen - 0.1), images, labels, Budget("Linf", 0.1))
    assert found.shape == images.shape
    assert network.training


@pytest.mark.whole
@pytest.mark.parametrize("attack", [ATTACKS["apgd"], ATTACKS["pgd-eot"]])
def test_a_start_may_be_of_any_kind_but_has_the_shape_of_the_images(attack: Callable[..., Tensor]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    images, labels = torch.rand(4, 1, 4, 4), torch.tensor([0, 1, 2, 0])
    found = [
        attack(network, images, labels, Budget("Linf", 0.1), steps=3, start=start)
        for start in (images, images.double(), images.numpy())
    ]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    with pytest.raises(ValueError, match=r"start must have the images' shape, \(4, 1, 4, 4\), not \(4, 16\)"):
        attack(network, images, labels, Budget("Linf", 0.1), start=images.flatten(1))
