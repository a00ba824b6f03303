from __future__ import annotations

from statistics import NormalDist

import pytest
import scipy.stats
import torch
from tests.rivals.conftest import CLASSES, CPU, SHAPE, accuracy, dataset
from torch import Tensor, nn

from carso.nn import MLP
from carso.rivals import NoisyStage, Smoothed
from carso.rivals.smoothing import lower_bound, upper_tail
from carso.training.loop import Stage, beginning, fit
from carso.training.recipe import ClassifierTraining

SIGMA = 0.5


class Halfspace(nn.Module):
    """Class 1 where w x > b, of unit w: at a distance d from the boundary, P(1) = Phi(d / sigma)."""

    def __init__(self, b: float = 0.0) -> None:
        super().__init__()
        self.b = b

    def forward(self, images: Tensor) -> Tensor:
        side = images.flatten(1).sum(1) / images[0].numel() ** 0.5 - self.b
        return torch.stack([-side, side], 1)


def at(distance: float, side: int = 4) -> Tensor:
    """An image at that distance from the boundary of `Halfspace(1.0)`."""
    return torch.full((1, 1, side, side), (1.0 + distance) / side)


@pytest.mark.parametrize("samples", [1, 10, 1000, 100_000])
def test_the_bound_is_the_quantile_of_the_beta_distribution(samples: int) -> None:
    votes = torch.tensor([0, 1, samples // 2, samples - 1, samples]).clamp(min=0)
    found = lower_bound(votes, samples, 0.001)
    expected = scipy.stats.beta.ppf(0.001, votes.numpy(), samples - votes.numpy() + 1)
    assert torch.allclose(found, torch.as_tensor(expected).nan_to_num(), rtol=1e-8)


def test_the_tail_is_the_binomial_ones() -> None:
    votes, p = torch.tensor([0, 3, 20]), torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    assert torch.allclose(upper_tail(votes, 20, p), torch.as_tensor(scipy.stats.binom.sf(votes - 1, 20, p)))


def test_unanimous_votes_have_the_closed_form() -> None:
    """p = alpha^(1/n), so that R = sigma Phi^-1(alpha^(1/n))."""
    certificate = Smoothed(Halfspace(-1000.0), SIGMA).certify(at(0.1), samples=1000, alpha=0.001)
    assert certificate.classes.tolist() == [1]
    radius = SIGMA * NormalDist().inv_cdf(0.001 ** (1 / 1000))
    assert float(certificate.radii) == pytest.approx(radius, rel=1e-6)


def test_the_radius_approaches_the_distance_from_below() -> None:
    """Of a half-space the certificate is tight: as n grows, R approaches the distance from the boundary."""
    rival, generator = Smoothed(Halfspace(1.0), SIGMA), torch.Generator().manual_seed(0)
    radii = [float(rival.certify(at(0.4), samples=n, generator=generator).radii) for n in (100, 1000, 10_000)]
    assert radii == sorted(radii)
    assert 0.36 < radii[-1] < 0.4


def test_it_abstains_where_neither_class_has_half_of_the_votes_for_certain() -> None:
    certificate = Smoothed(Halfspace(1.0), SIGMA).certify(at(0.0), samples=1000)
    assert certificate.radii.tolist() == [0.0]


def test_shares_are_the_probabilities_under_noise() -> None:
    shares = Smoothed(Halfspace(1.0), SIGMA, samples=5000)(at(0.3), torch.Generator().manual_seed(0))
    assert float(shares[0, 1]) == pytest.approx(NormalDist().cdf(0.3 / SIGMA), abs=0.03)


def test_a_seed_gives_one_answer_whatever_the_batch() -> None:
    images, rival = torch.rand(6, 1, 4, 4), Smoothed(Halfspace(2.0), SIGMA, samples=800)
    together = rival(images, torch.Generator().manual_seed(1))
    alone = torch.cat([rival(x, torch.Generator().manual_seed(1)) for x in images.split(1)])
    assert torch.equal(together, alone)


def test_trained_on_noise_it_classifies_under_noise() -> None:
    with beginning(0, "smoothing"):
        rival = Smoothed(MLP(SHAPE, (32,), CLASSES), sigma=0.3, samples=50)
    stage = NoisyStage(rival, ClassifierTraining(epochs=8, batch=64, rate=0.02), dataset(), dataset(64, 3), CPU)
    assert isinstance(stage, Stage)
    fit(stage, 0, "f")
    assert accuracy(rival) > 0.95


def test_no_images_are_all_answered_and_no_certificate_is_always_wrong() -> None:
    rival = Smoothed(MLP(SHAPE, (8,), CLASSES).eval(), sigma=0.3, samples=5)
    assert rival(torch.zeros(0, *SHAPE)).shape == (0, CLASSES)
    with pytest.raises(ValueError, match="alpha must be between 0 and 1, not 2"):
        rival.certify(torch.rand(2, *SHAPE), alpha=2.0)


@pytest.mark.parametrize("sigma", [-0.1, 0.0, float("inf"), float("nan")])
def test_noise_has_a_finite_deviation(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        Smoothed(MLP(SHAPE, (8,), CLASSES), sigma)
