from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carso.attacks import pgd
from carso.attacks.bpda import straight_through
from carso.errors import ModelError
from carso.types import Budget

Batch = tuple[Tensor, Tensor]


def quantise(images: Tensor) -> Tensor:
    return (images * 3).round() / 3


def test_forward_purifies_and_backward_passes_by(network: nn.Module, batch: Batch) -> None:
    x = batch[0].clone().requires_grad_()
    logits = straight_through(quantise, network)(x)
    assert torch.allclose(logits, network(quantise(batch[0])), atol=1e-5)
    (gradient,) = torch.autograd.grad(logits.sum(), x)
    u = quantise(batch[0]).requires_grad_()
    assert torch.allclose(gradient, torch.autograd.grad(network(u).sum(), u)[0], atol=1e-5)


def test_it_breaks_a_purifier_without_gradient(network: nn.Module, batch: Batch) -> None:
    images, labels = batch
    budget = Budget("Linf", 0.3)

    def accuracy(attacked: Tensor) -> float:
        return (network(quantise(attacked)).argmax(1) == labels).float().mean().item()

    blind = pgd(lambda x: network(quantise(x)), images, labels, budget)
    assert accuracy(pgd(straight_through(quantise, network), images, labels, budget)) < 0.05 < accuracy(blind)


def test_other_shapes_are_refused(network: nn.Module, batch: Batch) -> None:
    with pytest.raises(ModelError, match="identity"):
        straight_through(lambda images: images[:, :, 1:], network)(batch[0])


def test_the_classifier_is_given_what_was_purified_to_the_last_bit(batch: Batch) -> None:
    seen: list[Tensor] = []

    def classifier(images: Tensor) -> Tensor:
        seen.append(images)
        return images.flatten(1)

    straight_through(lambda images: 1 - images / 3, classifier)(batch[0])
    assert torch.equal(seen[0], 1 - batch[0] / 3)
