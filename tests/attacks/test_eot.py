from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carso.attacks.eot import Expectation, calls, exponential, log_mean_probability
from carso.attacks.eot import mean_log_probability as mlp
from carso.attacks.losses import cross_entropy

Batch = tuple[Tensor, Tensor]
LOGITS = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 0])


def test_one_candidate_is_the_classifier_itself() -> None:
    alone = LOGITS[:, :1]
    for aggregate in (mlp, log_mean_probability, exponential):
        assert torch.allclose(aggregate(alone).log_softmax(1), alone[:, 0].log_softmax(1), atol=1e-6)


def test_cross_entropy_of_the_mean_is_the_mean_cross_entropy() -> None:
    each = F.cross_entropy(LOGITS.flatten(0, 1), LABELS.repeat_interleave(7), reduction="none").view(5, 7)
    assert torch.allclose(-mlp(LOGITS).gather(1, LABELS[:, None]).squeeze(1), each.mean(1), atol=1e-5)


def test_log_mean_probability_is_a_distribution() -> None:
    assert torch.allclose(log_mean_probability(LOGITS).exp(), LOGITS.softmax(2).mean(1), atol=1e-6)


def test_exponential_ranks_as_the_papers_rule_and_does_not_saturate() -> None:
    scores = LOGITS.exp().sum(1)
    assert torch.equal(exponential(LOGITS).argsort(1), scores.argsort(1))
    large = (100 * LOGITS).requires_grad_()
    cross_entropy(exponential(large), LABELS).sum().backward()
    assert large.grad is not None
    assert large.grad.isfinite().all()


def test_expectation_of_a_deterministic_model_is_the_model(network: nn.Module, batch: Batch) -> None:
    expected = network(batch[0]).log_softmax(1)
    for samples in (1, 3):
        assert torch.allclose(Expectation(calls(network), samples)(batch[0]), expected, atol=1e-5)


def test_expectation_averages_fresh_randomness() -> None:
    def noisy(images: Tensor) -> Tensor:
        shift = torch.randn(len(images))
        return torch.stack([shift, -shift], dim=1)

    torch.manual_seed(0)
    images = torch.zeros(400, 1, 1, 1)
    few, many = (Expectation(calls(noisy), samples)(images)[:, 0].std() for samples in (1, 64))
    assert many.item() == pytest.approx(few.item() / 8, rel=0.3)
