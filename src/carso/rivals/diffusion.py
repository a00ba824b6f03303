"""Diffusion purification: noise drowns the perturbation, and a diffusion model takes both away.

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) e,  e ~ N(0, I)     a_t = prod_{i <= t} (1 - b_i), a_0 = 1, t = 0..T
    x^  = (x_t - sqrt(1 - a_t) e_theta(x_t, t)) / sqrt(a_t)                     what x_0 seems to be
    q(x_s | x_t, x_0) = N(mu, v I),  s < t,  r = a_t / a_s
        mu = (sqrt(a_s) (1 - r) x_0 + sqrt(r) (1 - a_s) x_t) / (1 - a_t),  v = (1 - a_s) (1 - r) / (1 - a_t)
    L   = E ||e - e_theta(x_t, t)||^2,  t uniform in 1..T

    g(x): x_0 := 2 x - 1 is diffused to t*, then x_s ~ q(x_s | x_t, x^) from t* down to 0        f(x) = N(g(x))

b_i rises evenly from 1e-4 to 0.02; t* is a share of T, 0.1 as in DiffPure for CIFAR-10 in L-infinity. The noise of a
call is drawn once and shared by its images. Gradients pass through every reverse step, exactly: each is computed once
more on the way back, as keeping all of them would take too much memory.

Sources: J. Ho, A. Jain and P. Abbeel, Denoising diffusion probabilistic models, NeurIPS 2020; W. Nie et al., Diffusion
models for adversarial purification, ICML 2022.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from carso.data import Dataset
from carso.nn import evaluating
from carso.nn.querying import as_taken, widened
from carso.processes.dealing import drawn
from carso.rivals.purified import Purified, normal
from carso.rivals.stage import GenerativeStage, noise
from carso.training.recipe import Schedule
from carso.types import Images, Labels

FIRST, LAST = 1e-4, 0.02
"""b_1 and b_T."""


class DDPM(nn.Module):
    """The diffusion model.

    Args:
        denoiser: e_theta, (x_t (B, C, H, W), t (B,)) to noise of the shape of x_t.
        horizon: T.
    """

    def __init__(self, denoiser: nn.Module, horizon: int = 1000) -> None:
        super().__init__()
        self.denoiser, self.horizon = denoiser, horizon
        kept = 1 - torch.linspace(FIRST, LAST, horizon, dtype=torch.float64)
        self.a = torch.cat([kept.new_ones(1), kept.cumprod(0)])

    def diffuse(self, x: Tensor, t: Labels, noise: Tensor) -> Tensor:
        """x_t of x_0 (B, C, H, W) at times t (B,)."""
        a = self._a(x)[t].view(-1, 1, 1, 1)
        return a.sqrt() * x + (1 - a).sqrt() * noise

    def origin(self, x: Tensor, t: Labels) -> Tensor:
        """x^: what x_0 seems to be, given x_t (B, C, H, W) at times t (B,)."""
        a = self._a(x)[t].view(-1, 1, 1, 1)
        origin: Tensor = (x - (1 - a).sqrt() * self.denoiser(as_taken(self.denoiser, x), t)) / a.sqrt()
        return origin

    def posterior(self, x: Tensor, origin: Tensor, t: int, s: int) -> tuple[Tensor, Float[Tensor, ""]]:
        """mu (B, C, H, W) and v of q(x_s | x_t, x_0)."""
        a_t, a_s = self._a(x)[[t, s]]
        r = a_t / a_s
        mean = (a_s.sqrt() * (1 - r) * origin + r.sqrt() * (1 - a_s) * x) / (1 - a_t)
        return mean, (1 - a_s) * (1 - r) / (1 - a_t)

    def _a(self, x: Tensor) -> Tensor:
        """a (T + 1,) for maps like x, in float32 at least: less cannot tell a_1 from 1."""
        return self.a.to(x.device, widened(x.dtype))

    def reverse(self, x: Tensor, t: int, s: int, noise: Tensor) -> Tensor:
        """x_s of x_t (B, C, H, W), by standard normal noise."""
        times = torch.full((len(x),), t, device=x.device)
        mean, variance = self.posterior(x, self.origin(x, times), t, s)
        return mean + variance.sqrt() * noise

    def extra_repr(self) -> str:
        """T."""
        return f"horizon={self.horizon}"


class DiffusionPurified(Purified):
    """An image diffused and denoised, classified; differentiable throughout.

    Args:
        classifier: N, images (B, C, H, W) in [0, 1] to logits (B, classes).
        ddpm: of clean images.
        t: t* as a share of T, in (0, 1].
        steps: of the way back, as even as may be; by default all t* T of them.

    Raises:
        ValueError: if t is no such share, or there are no such steps.
    """

    def __init__(self, classifier: nn.Module, ddpm: DDPM, *, t: float = 0.1, steps: int | None = None) -> None:
        super().__init__(classifier)
        start = round(t * ddpm.horizon)
        if not 1 <= start <= ddpm.horizon:
            raise ValueError(f"t, a share of {ddpm.horizon} steps, must lie in (0, 1], not {t}")
        steps = start if steps is None else steps
        if not 1 <= steps <= start:
            raise ValueError(f"from {start} there are 1 to {start} steps back, not {steps}")
        self.ddpm = ddpm
        self.times = [round(start * (1 - i / steps)) for i in range(steps + 1)]

    def _purified(self, images: Images, generator: torch.Generator | None) -> Images:
        shape = (1, *images.shape[1:])
        start = torch.full((len(images),), self.times[0], device=images.device)
        x = self.ddpm.diffuse(2 * images - 1, start, normal(*shape, like=images, generator=generator).to(images))
        for t, s in pairwise(self.times):
            noise = normal(*shape, like=images, generator=generator).to(images)
            x = checkpoint(self._reverse, x, t, s, noise, use_reentrant=False, preserve_rng_state=False)
        return ((x + 1) / 2).clamp(0, 1)

    def _reverse(self, x: Tensor, t: int, s: int, noise: Tensor) -> Tensor:
        """A step back, in eval mode whenever it is computed."""
        with evaluating(self.ddpm):
            return self.ddpm.reverse(x, t, s, noise)

    def extra_repr(self) -> str:
        """The times, from which one step leads to the next."""
        return f"times={self.times}"


class DiffusionStage(GenerativeStage):
    """The diffusion model in training; no label is needed, and no classifier.

    Args:
        ddpm: what is trained.
        schedule: how; with `average`, as diffusion models are.
        train: images.
        validation: held-out images, for the history only.
        device: where to train.
    """

    def __init__(
        self, ddpm: DDPM, schedule: Schedule, train: Dataset, validation: Dataset, device: torch.device
    ) -> None:
        super().__init__("diffusion", ddpm, schedule, train, validation, device)
        self.ddpm = ddpm

    def objective(self, images: Images, labels: Labels | None) -> Tensor:
        """L, averaged over pixels and batch."""
        e = noise(images)
        t = drawn(lambda rows: torch.randint(1, self.ddpm.horizon + 1, (rows,), device=images.device), len(images))
        return F.mse_loss(self.ddpm.denoiser(self.ddpm.diffuse(2 * images - 1, t, e), t), e)
