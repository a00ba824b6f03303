from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from tests.rivals.conftest import CPU, SHAPE, accuracy, bars, dataset, schedule
from torch import Tensor, nn

from carso.rivals import DDPM, DiffusionPurified, DiffusionStage, UNet
from carso.rivals.unet import waves
from carso.training.loop import Stage, beginning, fit

MEAN, SCALE = 0.4, 0.3


class OfGaussian(nn.Module):
    """The best denoiser of x_0 ~ N(m, s^2 I): e = (x_t - sqrt(a) E[x_0 | x_t]) / sqrt(1 - a)."""

    ddpm: DDPM

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a = self.ddpm.a[t].view(-1, 1, 1, 1)
        return (x - a.sqrt() * posterior_mean(x, a)) / (1 - a).sqrt()


def posterior_mean(x: Tensor, a: Tensor) -> Tensor:
    """E[x_0 | x_t] of x_0 ~ N(m, s^2 I), in closed form."""
    return MEAN + SCALE**2 * a.sqrt() / (SCALE**2 * a + 1 - a) * (x - a.sqrt() * MEAN)


def of_gaussian(horizon: int = 200) -> DDPM:
    denoiser = OfGaussian()
    ddpm = DDPM(denoiser, horizon).double()
    object.__setattr__(denoiser, "ddpm", ddpm)
    return ddpm


@pytest.mark.parametrize("stride", [1, 7, 150])
def test_on_a_gaussian_the_way_back_ends_at_the_posterior_mean(stride: int) -> None:
    """E[x_0 | x_s] is linear in x_s, so that by the tower property the noiseless chain ends at E[x_0 | x_t]."""
    ddpm, start = of_gaussian(), 150
    x = torch.randn(4, 1, 2, 2, dtype=torch.float64)
    end = x
    for t, s in pairwise([*range(start, 0, -stride), 0]):
        end = ddpm.reverse(end, t, s, torch.zeros_like(end))
    assert torch.allclose(end, posterior_mean(x, ddpm.a[start]), atol=1e-6)


def test_on_a_gaussian_the_way_back_has_nearly_the_posterior_variance() -> None:
    ddpm, start = of_gaussian(1000), 300
    torch.manual_seed(0)
    end = torch.full((20_000, 1, 1, 1), 0.7, dtype=torch.float64)
    for t, s in pairwise(range(start, -1, -1)):
        end = ddpm.reverse(end, t, s, torch.randn_like(end))
    a = ddpm.a[start]
    variance = float(SCALE**2 * (1 - a) / (SCALE**2 * a + 1 - a))
    assert float(end.mean()) == pytest.approx(float(posterior_mean(torch.tensor(0.7), a)), abs=0.01)
    assert float(end.var()) == pytest.approx(variance, rel=0.05)


@pytest.mark.parametrize(("t", "s"), [(10, 9), (150, 20), (3, 0)])
def test_the_posterior_is_the_conditional_of_the_joint_gaussian(t: int, s: int) -> None:
    """Given x_0, (x_s, x_t) is Gaussian: condition x_s on x_t."""
    ddpm = DDPM(nn.Identity(), 200).double()
    a_t, a_s = ddpm.a[t], ddpm.a[s]
    origin, x = torch.full((1, 1, 1, 1), 0.3).double(), torch.full((1, 1, 1, 1), -0.8).double()
    var_s, var_t, cov = 1 - a_s, 1 - a_t, (a_t / a_s).sqrt() * (1 - a_s)
    mean, variance = ddpm.posterior(x, origin, t, s)
    assert torch.allclose(mean, a_s.sqrt() * origin + cov / var_t * (x - a_t.sqrt() * origin))
    assert torch.allclose(variance, var_s - cov**2 / var_t, atol=1e-12)


def test_diffused_images_have_the_moments_of_the_process() -> None:
    ddpm = DDPM(nn.Identity())
    x = torch.full((20_000, 1, 1, 1), 0.5)
    diffused = ddpm.diffuse(x, torch.full((len(x),), 300), torch.randn(x.shape))
    a = float(ddpm.a[300])
    assert float(diffused.mean()) == pytest.approx(0.5 * a**0.5, abs=0.03)
    assert float(diffused.var()) == pytest.approx(1 - a, rel=0.05)
    assert float(ddpm.a[1000]) < 1e-4
    assert float(ddpm.a[0]) == 1


class Means(nn.Module):
    """Two logits by the mean of the image."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([mean, -mean], 1)


@pytest.mark.parametrize(("steps", "times"), [(None, 21), (5, 6), (1, 2)])
def test_steps_go_evenly_from_t_to_0(steps: int | None, times: int) -> None:
    rival = DiffusionPurified(Means(), DDPM(UNet(1, 8), 200), t=0.1, steps=steps)
    assert (rival.times[0], rival.times[-1], len(rival.times)) == (20, 0, times)
    assert all(t > s for t, s in pairwise(rival.times))


@pytest.mark.parametrize("options", [{"t": 0.0}, {"t": 1.5}, {"t": 0.1, "steps": 200}, {"t": 0.1, "steps": 0}])
def test_other_times_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="steps"):
        DiffusionPurified(Means(), DDPM(UNet(1, 8)), **options)


def test_gradients_recomputed_on_the_way_back_are_exact() -> None:
    torch.manual_seed(0)
    ddpm = DDPM(UNet(1, 8), 100)
    rival = DiffusionPurified(Means(), ddpm, t=0.1, steps=3)
    images = bars(2, 0)[0].requires_grad_()
    generator = torch.Generator().manual_seed(0)
    ours = torch.autograd.grad(rival(images, generator)[:, 0].sum(), images)[0]
    noises = [torch.randn(1, *SHAPE, generator=generator.manual_seed(0))]
    noises += [torch.randn(1, *SHAPE, generator=generator) for _ in range(3)]
    x = ddpm.diffuse(2 * images - 1, torch.full((2,), rival.times[0]), noises[0])
    for (t, s), noise in zip(pairwise(rival.times), noises[1:], strict=True):
        x = ddpm.reverse(x, t, s, noise)
    theirs = torch.autograd.grad(((x + 1) / 2).clamp(0, 1).mean((1, 2, 3)).sum(), images)[0]
    assert torch.allclose(ours, theirs, atol=1e-7)
    assert ours.abs().sum() > 0


def test_a_seed_gives_one_answer_whatever_the_batch() -> None:
    rival = DiffusionPurified(Means(), DDPM(UNet(1, 8), 100), t=0.1, steps=2)
    images, _ = bars(4, 0)
    together = rival.purify(images, torch.Generator().manual_seed(0))
    alone = torch.cat([rival.purify(x, torch.Generator().manual_seed(0)) for x in images.split(1)])
    assert torch.allclose(together, alone, atol=1e-5)
    assert together.min() >= 0
    assert together.max() <= 1


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10), (1, 28, 28)])
def test_the_network_fits_images_of_any_size_and_knows_the_time(shape: tuple[int, int, int]) -> None:
    network, x = UNet(shape[0], 8), torch.randn(2, *shape)
    early, late = network(x, torch.tensor([1, 1])), network(x, torch.tensor([900, 900]))
    assert early.shape == x.shape
    assert not torch.allclose(early, late)


def test_times_are_told_apart() -> None:
    told = waves(torch.arange(1000), 32)
    assert told.shape == (1000, 32)
    assert torch.cdist(told, told).fill_diagonal_(1).min() > 1e-3


def test_trained_it_takes_noise_away(classifier: nn.Module) -> None:
    with beginning(0, "ddpm"):
        ddpm = DDPM(UNet(1, 16, levels=1), 100)
    stage = DiffusionStage(ddpm, schedule(12, 0.01, average=0.9), dataset(), dataset(64, 3), CPU)
    assert isinstance(stage, Stage)
    history = fit(stage, 0, "f")
    assert history[-1]["validation_loss"] < 0.5
    rival = DiffusionPurified(classifier, ddpm, t=0.4, steps=8)
    assert accuracy(rival) > 0.9
    images, _ = bars(64, 4)
    noisy = (images + 0.3 * torch.randn_like(images)).clamp(0, 1)
    assert (rival.purify(noisy) - images).square().mean() < (noisy - images).square().mean()


@pytest.mark.parametrize("layer", [nn.BatchNorm2d(4), nn.Dropout(0.5)])
def test_gradients_are_those_of_eval_mode_whatever_the_mode(layer: nn.Module) -> None:
    class Denoiser(nn.Sequential):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    denoiser = Denoiser(nn.Conv2d(1, 4, 3, padding=1), layer, nn.SiLU(), nn.Conv2d(4, 1, 3, padding=1))
    rival = DiffusionPurified(Means(), DDPM(denoiser), t=0.1, steps=2)
    slopes = []
    for mode in (True, False):
        x = torch.full((2, 1, 4, 4), 0.5, requires_grad=True)
        rival.train(mode)
        rival.purify(x, torch.Generator().manual_seed(0)).sum().backward()
        assert denoiser.training == mode
        slopes.append(x.grad)
    torch.testing.assert_close(*slopes)
