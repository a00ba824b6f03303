from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.attacks import deepfool
from carso.attacks.deepfool import minimal_perturbation, perturb
from carso.nn import MLP
from carso.types import Budget

Batch = tuple[Tensor, Tensor]


def linear(classes: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))


def inside(model: nn.Module) -> Batch:
    """Images far from the walls of the box, and the model's own classes."""
    images = 0.4 + 0.2 * torch.rand(50, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return images, model(images).argmax(1)


def distances(model: nn.Sequential, images: Tensor, labels: Tensor, dual: float) -> Tensor:
    """Exact distance to the nearest decision boundary of a linear model: min_k |f_k| / ||w_k||_q."""
    with torch.no_grad():
        logits, weight = model(images), model[1].weight
        f = logits.gather(1, labels[:, None]) - logits
        w = (weight[labels][:, None] - weight).norm(p=dual, dim=2)
        return (f / w).scatter(1, labels[:, None], torch.inf).amin(dim=1)


@pytest.mark.parametrize(("norm", "dual"), [("Linf", 1), ("L2", 2)])
@pytest.mark.parametrize("classes", [2, 3, 10])
@pytest.mark.parametrize("fast", [False, True])
def test_linear_models_are_fooled_at_the_exact_distance(norm: Any, dual: int, classes: int, fast: bool) -> None:
    model = linear(classes)
    images, labels = inside(model)
    expected = distances(model, images, labels, dual)
    near = expected < (0.35 if norm == "Linf" else 0.6)
    assert near.sum() >= 20
    found = minimal_perturbation(model, images, labels, norm, fast=fast).flatten(1)
    size = found.abs().amax(1) if norm == "Linf" else found.norm(dim=1)
    assert torch.allclose(size[near], 1.02 * expected[near].clamp_min(1e-5), rtol=1e-3, atol=1e-6)
    assert (model(images + found.view_as(images)).argmax(1) != labels)[near].all()


def test_linf_moves_every_pixel_equally_and_l2_along_the_normal() -> None:
    model = linear(2)
    images, labels = inside(model)
    w = (model[1].weight[1] - model[1].weight[0]).detach()
    towards = torch.where(labels == 0, 1.0, -1.0)[:, None] * w
    linf = minimal_perturbation(model, images, labels, "Linf").flatten(1)
    assert torch.allclose(linf, linf.abs().amax(1, keepdim=True) * towards.sign(), atol=1e-6)
    l2 = minimal_perturbation(model, images, labels, "L2").flatten(1)
    assert torch.allclose(l2, l2.norm(dim=1, keepdim=True) * towards / w.norm(), atol=1e-6)


def test_a_wall_of_the_box_does_not_stop_it_short() -> None:
    """Half of the pixels are black and would have to fall: the other half goes twice as far."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[0.0, 0, 0, 0], [1, 1, -1, -1]]))
        model[1].bias.copy_(torch.tensor([0.2, 0.0]))
    images = torch.zeros(1, 1, 2, 2)
    found = minimal_perturbation(model, images, torch.tensor([0]), "Linf")
    assert torch.allclose(found.flatten(), 1.02 * torch.tensor([0.1, 0.1, 0.0, 0.0]))


@pytest.mark.parametrize("candidates", [2, 4])
def test_only_the_most_probable_classes_are_candidates(candidates: int) -> None:
    model = linear(10)
    images, labels = inside(model)
    allowed = model(images).topk(candidates, dim=1).indices[:, 1:]
    reached = model(images + minimal_perturbation(model, images, labels, "L2", candidates=candidates)).argmax(1)
    stopped = reached == labels
    aimed = (allowed == reached[:, None]).any(1)
    assert aimed.sum() > 25
    assert (aimed | stopped).float().mean() > 0.7  # another class may lie in the way


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_misclassified_images_stay_untouched(network: nn.Module, batch: Batch, norm: Any) -> None:
    images, labels = batch
    wrong = network(images).argmax(1) != labels
    assert wrong.any()
    attacked = deepfool(network, images, labels, Budget(norm, 0.3))
    moved = (attacked != images).flatten(1).any(1)
    assert torch.equal(moved, ~wrong)


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.02), ("Linf", 0.08), ("L2", 0.2), ("L2", 0.7)])
def test_the_budget_bounds_the_minimal_perturbation(network: nn.Module, batch: Batch, norm: Any, eps: float) -> None:
    images, labels = batch
    free = minimal_perturbation(network, images, labels, norm)
    attacked = deepfool(network, images, labels, Budget(norm, eps))
    assert torch.allclose(perturb(images, free, Budget(norm, eps)), attacked, atol=1e-6)
    delta = (attacked - images).flatten(1)
    size = delta.abs().amax(1) if norm == "Linf" else delta.norm(dim=1)
    assert size.max().item() <= eps
    within = (free.flatten(1).abs().amax(1) if norm == "Linf" else free.flatten(1).norm(dim=1)) < 0.99 * eps
    assert torch.allclose(attacked[within], (images + free)[within], atol=1e-6)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_every_image_is_fooled_without_a_bound(network: nn.Module, batch: Batch, norm: Any) -> None:
    images, labels = batch
    attacked = deepfool(network, images, labels, Budget(norm, 1e9))
    assert (network(attacked).argmax(1) != labels).all()


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
@pytest.mark.parametrize("output", ["logits", "mish-log-softmax"])
def test_the_fast_path_is_the_plain_one(batch: Batch, norm: Any, output: Any) -> None:
    torch.manual_seed(0)
    model = MLP((1, 12, 12), hidden=(40, 30), output=output)
    images = batch[0]
    labels = model.eval()(images).argmax(1)
    plain, fast = (minimal_perturbation(model, images, labels, norm, fast=f) for f in (False, True))
    assert plain.abs().max() > 1e-3
    assert ((plain - fast).abs() > 1e-4).flatten(1).any(1).float().mean() < 0.02


@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_no_gradient_no_nan(norm: Any, fast: bool) -> None:
    model = linear(3)
    nn.init.zeros_(model[1].weight)
    images, labels = inside(model)
    assert torch.equal(deepfool(model, images, labels, Budget(norm, 0.1), fast=fast), images)


@pytest.mark.parametrize("options", [{"steps": 0}, {"candidates": 1}, {"overshoot": -0.1}])
def test_nonsense_options_are_refused(network: nn.Module, batch: Batch, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="DeepFool needs"):
        deepfool(network, *batch, Budget("Linf", 0.1), **options)


def fooled_within(network: nn.Module, batch: Batch, adversarial: Tensor, norm: str, eps: float) -> Tensor:
    images, labels = batch
    delta = (adversarial - images).flatten(1)
    size = delta.abs().amax(1) if norm == "Linf" else delta.norm(dim=1)
    return (network(adversarial).argmax(1) != labels) & (size <= eps)


@pytest.mark.parametrize(("norm", "eps"), [("Linf", 0.05), ("Linf", 0.08), ("L2", 0.5), ("L2", 0.8)])
def test_no_fewer_successes_than_foolbox(network: nn.Module, batch: Batch, norm: Any, eps: float) -> None:
    foolbox = pytest.importorskip("foolbox")
    rival = foolbox.attacks.LinfDeepFoolAttack if norm == "Linf" else foolbox.attacks.L2DeepFoolAttack
    model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
    _, theirs, _ = rival(steps=50, overshoot=0.02)(model, *batch, epsilons=eps)
    compare(network, batch, theirs, norm, eps)


def test_no_fewer_successes_than_torchattacks(network: nn.Module, batch: Batch) -> None:
    torchattacks = pytest.importorskip("torchattacks")
    few = batch[0][5:45], batch[1][5:45]
    theirs = torchattacks.DeepFool(network, steps=10, overshoot=0.02)(*few)
    for eps in (0.5, 0.6):
        compare(network, few, perturb(few[0], theirs - few[0], Budget("L2", eps)), "L2", eps)


def compare(network: nn.Module, batch: Batch, theirs: Tensor, norm: Any, eps: float) -> None:
    ours = deepfool(network, *batch, Budget(norm, eps))
    successes = [fooled_within(network, batch, x, norm, eps * (1 + 1e-6)).float().mean() for x in (ours, theirs)]
    assert 0.05 < successes[1] < 0.95
    assert successes[0] >= successes[1]
