from __future__ import annotations

import pytest
import torch
from tests.rivals.conftest import CPU, SHAPE, accuracy, bars, dataset, schedule
from torch import Tensor, nn

from carso.nn.modes import evaluating
from carso.rivals import WGAN, DefenseGAN, EncoderStage, Generator, WGANStage
from carso.rivals.defense_gan import CRITIC_PASSES, critic, encoder
from carso.training.loop import Stage, beginning, fit

LATENT = 4


@pytest.fixture
def untrained(classifier: nn.Module) -> DefenseGAN:
    with beginning(0, "gan"):
        generator = Generator(SHAPE, LATENT, hidden=(32,)).eval()
        rival = DefenseGAN(classifier, generator, encoder(SHAPE, LATENT, (32,)), rate=20.0)
    return rival.eval()


def test_defaults_are_the_papers(classifier: nn.Module) -> None:
    rival = DefenseGAN(classifier, Generator(SHAPE), encoder(SHAPE))
    assert (rival.steps, rival.restarts) == (200, 10)


def test_descent_recovers_an_image_of_its_own_generator(untrained: DefenseGAN) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        images = untrained.generator(torch.randn(16, LATENT))
        others = untrained.generator(torch.randn(16, LATENT))
    purified = untrained.purify(images)
    error = (purified - images).square().flatten(1).mean(1).sqrt()
    assert error.max() < 0.01 < (others - images).square().mean().sqrt() / 5


@pytest.fixture
def linear(untrained: DefenseGAN) -> tuple[DefenseGAN, Tensor]:
    """A rival of G(z) = A z, and an orthonormal basis of what A reaches, (pixels, latent)."""
    torch.manual_seed(2)
    a = torch.randn(64, LATENT, dtype=torch.float32) / 8
    generator = nn.Sequential(nn.Linear(LATENT, 64, bias=False), nn.Unflatten(1, SHAPE))
    generator[0].weight.data.copy_(a)
    generator.latent = LATENT
    untrained.generator = generator
    return untrained, torch.linalg.qr(a).Q


def test_descent_finds_the_least_squares_of_a_linear_generator(linear: tuple[DefenseGAN, Tensor]) -> None:
    """Of G(z) = A z, the nearest image is the orthogonal projection on the columns of A."""
    rival, basis = linear
    images = torch.rand(8, *SHAPE)
    projected = (images.flatten(1) @ basis @ basis.T).view_as(images)
    assert torch.allclose(rival.purify(images), projected, atol=1e-3)


def test_the_surrogates_gradient_is_that_of_the_nearest_image(linear: tuple[DefenseGAN, Tensor]) -> None:
    """Of G(z) = A z, d N(Q Q' x) / dx = Q Q' dN, and the surrogate's value N(Q Q' x), from wherever E begins."""
    rival, basis = linear
    rival.refinements = 200
    images = torch.rand(8, *SHAPE, requires_grad=True)
    projected = (images.flatten(1) @ basis @ basis.T).view_as(images)
    with evaluating(rival):
        exact = rival.classifier(projected)
    found = rival.surrogate(images)
    assert torch.allclose(found, exact, atol=1e-2)
    weights = torch.randn(exact.shape)
    slopes = [torch.autograd.grad((scores * weights).sum(), images)[0] for scores in (found, exact)]
    assert torch.allclose(*slopes, atol=1e-2 * float(slopes[1].abs().max()))


def test_more_restarts_are_never_worse(untrained: DefenseGAN) -> None:
    images, _ = bars(16, 5)

    def errors(restarts: int) -> Tensor:
        untrained.restarts, untrained.steps = restarts, 20
        purified = untrained.purify(images, torch.Generator().manual_seed(0))
        return (purified - images).square().flatten(1).sum(1)

    assert (errors(8) <= errors(1) + 1e-4).float().mean() > 0.8
    assert errors(8).mean() < errors(1).mean()


def test_a_seed_gives_one_answer_whatever_the_batch(untrained: DefenseGAN) -> None:
    images, _ = bars(6, 5)
    untrained.steps = 10
    together = untrained.purify(images, torch.Generator().manual_seed(0))
    alone = torch.cat([untrained.purify(x, torch.Generator().manual_seed(0)) for x in images.split(1)])
    assert torch.allclose(together, alone, atol=1e-5)


def test_the_answer_has_no_gradient_and_the_surrogate_has(untrained: DefenseGAN) -> None:
    untrained.steps = 2
    images = bars(4, 5)[0].requires_grad_()
    assert not untrained(images).requires_grad
    (gradient,) = torch.autograd.grad(untrained.surrogate(images).sum(), images)
    assert (gradient.flatten(1).abs().sum(1) > 0).all()


def test_it_descends_in_inference_mode_too(untrained: DefenseGAN) -> None:
    untrained.steps, images = 3, bars(4, 5)[0]
    answers = (lambda x: untrained(x, torch.Generator().manual_seed(0))), untrained.surrogate
    for answer in answers:
        expected = answer(images)
        with torch.inference_mode():
            assert torch.equal(answer(images.clone()), expected)


def wgan() -> WGAN:
    with beginning(0, "wgan"):
        return WGAN(Generator(SHAPE, LATENT, hidden=(32,)), critic(SHAPE, (32,)))


def test_each_pass_moves_one_of_the_two_networks() -> None:
    stage = WGANStage(wgan(), schedule(), dataset(64), dataset(64), CPU)
    assert isinstance(stage, Stage)
    images = stage.train.images
    for part in range(stage.passes):
        stage.module.zero_grad(set_to_none=True)
        stage.loss(images, torch.arange(64), part).backward()
        moved, still = stage.wgan.critic, stage.wgan.generator
        if part == CRITIC_PASSES:
            moved, still = still, moved
        assert all(p.grad is not None for p in moved.parameters())
        assert all(p.grad is None for p in still.parameters())


def test_the_penalty_of_a_linear_critic_is_that_of_its_slope() -> None:
    gan = wgan()
    gan.critic = nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    length = float(gan.critic[1].weight.detach().norm())
    assert gan.penalty(bars(16, 0)[0]).item() == pytest.approx((length - 1) ** 2, rel=1e-4)


def test_trained_it_classifies(classifier: nn.Module) -> None:
    gan = wgan()
    stage = WGANStage(gan, schedule(30, 0.003), dataset(), dataset(64, 3), CPU)
    fit(stage, 0, "f")
    rival = DefenseGAN(classifier, gan.generator, encoder(SHAPE, LATENT, (64,)), steps=100, restarts=5, rate=20.0)
    history = fit(EncoderStage(rival, schedule(20, 0.005), dataset(), dataset(64, 3), CPU), 0, "f")
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]
    assert accuracy(rival) > 0.9
    images, _ = bars(128, 6)
    with evaluating(rival):
        assert (rival.surrogate(images).argmax(1) == rival(images).argmax(1)).float().mean() > 0.9
