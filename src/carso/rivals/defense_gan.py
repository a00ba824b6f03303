"""Defense-GAN: the image is replaced by the nearest one that a generator of clean images can make.

    z* = argmin_z ||G(z) - x||^2      L steps of gradient descent from each of R random starts; the best end is z*
    g(x) = G(z*)                      f(x) = N(g(x))
    G, D trained as a WGAN:           min_G max_D E D(x) - E D(G(z)) - lambda E (||grad D(x~)|| - 1)^2,  z ~ N(0, I)

N: a classifier, trained before; D: the critic; x~: uniformly between x and G(z). Descent has the momentum and the rate
of the authors' code, whose rate falls to a tenth after four fifths of the steps; here it stays. Starts are of N(0, I),
as the z of the training are; in that code their standard deviation is 1 / sqrt(dimension of z). They are drawn once per
call and shared by its images. The critic's steps before one of G's are on one batch, there each is on a batch of its
own.

The descent has no gradient worth having. What an attacker differentiates in its place (`surrogate`) ends where the
descent does, as far as a few steps from a good start can tell, and has the gradient of a descent that has come to its
end: where z* is the nearest, x moves G(z*) by what of it lies in the tangent space of G's images there,

    z = a few steps from E(x)      dG(z*) / dx = J (J' J)^-1 J' = Q Q'      J = dG / dz at z = QR

to first order, without the curvature of G. The encoder E, the attacker's and no part of the defence, is trained for the
objective of the descent,

    min over E of E ||G(E(x')) - x'||^2      x': a training image with uniform noise

Sources: P. Samangouei, M. Kabkab and R. Chellappa, Defense-GAN: protecting classifiers against adversarial attacks
using generative models, ICLR 2018; I. Gulrajani et al., Improved training of Wasserstein GANs, NeurIPS 2017.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from carso.data import Dataset
from carso.nn import evaluating, query
from carso.nn.perceptron import perceptron
from carso.nn.querying import widened
from carso.processes.dealing import drawn
from carso.progress import track
from carso.recall import PIXELS
from carso.rivals.purified import Purified, normal, of_each
from carso.rivals.stage import GenerativeStage
from carso.training.mixture import within_ball
from carso.training.recipe import Schedule
from carso.training.together import as_whole
from carso.types import Images, Labels, Logits, at_least_one

MOMENTUM = 0.7
PENALTY, CRITIC_PASSES = 10.0, 5
"""lambda, and the critic's steps before each of the generator's."""

Starts = Float[Tensor, "rows latent"]


class Generator(nn.Module):
    """G, dense.

    Args:
        shape: (C, H, W) of the images.
        latent: dimension of z.
        hidden: neurons of the hidden layers.

    Raises:
        ValueError: if latent is less than 1.
    """

    def __init__(self, shape: Sequence[int], latent: int = 64, hidden: Sequence[int] = (256, 512)) -> None:
        super().__init__()
        at_least_one(latent=latent)
        self.shape, self.latent = tuple(shape), latent
        self.layers = perceptron((latent, *hidden, math.prod(shape)), nn.Sigmoid())

    def forward(self, latents: Starts) -> Images:
        """z (B, latent) to images (B, C, H, W) in (0, 1)."""
        pixels: Tensor = self.layers(latents)
        return pixels.reshape(-1, *self.shape)


def encoder(shape: Sequence[int], latent: int = 64, hidden: Sequence[int] = (512, 256)) -> nn.Module:
    """E, dense: images (B, C, H, W) to z (B, latent)."""
    return nn.Sequential(nn.Flatten(), perceptron((math.prod(shape), *hidden, latent), nn.Identity()))


def critic(shape: Sequence[int], hidden: Sequence[int] = (512, 256)) -> nn.Module:
    """D, dense: images (B, C, H, W) to (B, 1); without batch norm, as its penalty is one of single images."""
    return nn.Sequential(nn.Flatten(), perceptron((math.prod(shape), *hidden, 1), nn.Identity(), normalised=False))


class DefenseGAN(Purified):
    """The nearest image of a generator's, classified.

    Args:
        classifier: N, images (B, C, H, W) in [0, 1] to logits (B, classes).
        generator: G, with `latent`, the dimension of z.
        encoder: E, images to z (B, latent), where the attacker's surrogate begins.
        steps: L.
        restarts: R.
        rate: of the descent, the same in all steps, on the squared error averaged over the pixels.
        refinements: steps of the surrogate's descent.

    Raises:
        ValueError: if one of these numbers is not positive, or the rate not finite.
    """

    attackers = ("encoder",)

    def __init__(
        self,
        classifier: nn.Module,
        generator: Generator,
        encoder: nn.Module,
        *,
        steps: int = 200,
        restarts: int = 10,
        rate: float = 10.0,
        refinements: int = 10,
    ) -> None:
        super().__init__(classifier)
        self.generator, self.encoder = generator, encoder
        at_least_one(steps=steps, restarts=restarts, refinements=refinements)
        if not 0 < rate < math.inf:
            raise ValueError(f"rate must be positive and finite, not {rate}")
        self.steps, self.restarts, self.rate, self.refinements = steps, restarts, rate, refinements

    def extra_repr(self) -> str:
        """How it descends, and how its surrogate does."""
        return f"steps={self.steps}, restarts={self.restarts}, rate={self.rate}, refinements={self.refinements}"

    def _purified(self, images: Images, generator: torch.Generator | None) -> Images:
        starts = normal(self.restarts, self.generator.latent, like=images, generator=generator).to(images)
        parts = images.detach().split(max(1, PIXELS // (self.restarts * math.prod(images.shape[1:]))))
        return torch.cat([self._nearest(some, starts) for some in track(parts, "descents")])

    def _nearest(self, images: Images, starts: Starts) -> Images:
        wanted = images.repeat_interleave(len(starts), 0)
        ends = self.descend(wanted, starts.repeat(len(images), 1), self.steps)
        with torch.no_grad():
            found = self.generator(ends)
            errors = (found - wanted).square().flatten(1).sum(1).view(-1, len(starts))
            return of_each(found.unflatten(0, errors.shape), errors.argmin(1))

    def descend(self, images: Images, latents: Starts, steps: int) -> Starts:
        """z (B, latent) after so many steps towards images (B, C, H, W), one from each start (B, latent)."""
        velocity = torch.zeros_like(latents)
        for _ in range(steps):
            velocity = MOMENTUM * velocity - self.rate * self._slope(images, latents)
            latents = latents + velocity
        return latents

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _slope(self, images: Images, latents: Starts) -> Starts:
        z = latents.detach().clone().requires_grad_()
        error = (self.generator(z) - images).square().flatten(1).mean(1).sum()
        (slope,) = torch.autograd.grad(error, z)
        return slope

    def surrogate(self, images: Images) -> Logits:
        """N at the end of `refinements` steps from E(x): logits (B, classes), differentiable in the images."""
        taken = self._taken(images)
        fixed = taken.detach()
        with evaluating(self):
            with torch.no_grad():
                latents = self.descend(fixed, self.encoder(fixed), self.refinements)
                nearest = self.generator(latents)
            return query(self.classifier, nearest + _within(self.tangent(latents), taken - fixed))

    @torch.inference_mode(False)
    @torch.enable_grad()
    def tangent(self, latents: Starts) -> Float[Tensor, "rows latent pixels"]:
        """Orthonormal directions Q' (B, latent, pixels) in which G's images of z (B, latent) move with z.

        J v, for each v of the latent's own axes, is the derivative by u of <J' u, v>.
        """
        axes = torch.eye(latents.shape[1], device=latents.device).repeat(len(latents), 1)
        z = latents.detach().repeat_interleave(latents.shape[1], 0).requires_grad_()
        images = self.generator(z)
        u = torch.zeros_like(images, requires_grad=True)
        (along,) = torch.autograd.grad(images, z, u, create_graph=True)
        (slopes,) = torch.autograd.grad((along * axes).sum(), u)
        columns = slopes.flatten(1).unflatten(0, latents.shape).mT
        directions: Tensor = torch.linalg.qr(columns.to(widened(columns.dtype))).Q.mT
        return directions.to(columns.dtype)


def _within(basis: Float[Tensor, "rows latent pixels"], images: Images) -> Images:
    """Q Q' x: what of each image lies in the span of its orthonormal directions."""
    return (basis.mT @ (basis @ images.flatten(1)[..., None])).view_as(images)


class WGAN(nn.Module):
    """G and its critic D, which are trained against each other.

    Args:
        generator: G, with `latent`.
        critic: D, images to (B, 1), without batch norm.
    """

    def __init__(self, generator: Generator, critic: nn.Module) -> None:
        super().__init__()
        self.generator, self.critic = generator, critic

    def made(self, n: int, like: Images) -> Images:
        """G(z) (n, C, H, W) of fresh z."""
        images: Tensor = self.generator(drawn(lambda rows: normal(rows, self.generator.latent, like=like), n))
        return images

    def distance(self, images: Images) -> Tensor:
        """E D(x) - E D(G(z)), scalar, which no gradient passes to G: the Wasserstein distance, once D is trained."""
        fake = self.made(len(images), images).detach()
        gap: Tensor = self.critic(images).mean() - self.critic(fake).mean()
        return gap

    def penalty(self, images: Images) -> Tensor:
        """E (||grad D(x~)|| - 1)^2, scalar."""
        fake = self.made(len(images), images).detach()
        share = drawn(lambda rows: torch.rand(rows, 1, 1, 1, device=images.device), len(images))
        between = torch.lerp(fake, images, share).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        excess: Tensor = slope.flatten(1).norm(dim=1) - 1
        return excess.square().mean()

    def fooled(self, images: Images) -> Tensor:
        """-E D(G(z)), scalar, whose gradient does not reach the weights of D."""
        frozen = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        judged: Tensor = functional_call(self.critic, frozen, (self.made(len(images), images),))
        return -judged.mean()


class WGANStage(GenerativeStage):
    """G and D in training: per batch, `CRITIC_PASSES` steps of D, all on it, then one of G.

    `module.generator` is what is wanted.

    Args:
        wgan: what is trained.
        schedule: how; one optimiser has both networks' weights, of which a step moves those that have a gradient.
        train: images.
        validation: held-out images, for the history only.
        device: where to train.
    """

    passes = CRITIC_PASSES + 1

    def __init__(
        self, wgan: WGAN, schedule: Schedule, train: Dataset, validation: Dataset, device: torch.device
    ) -> None:
        super().__init__("wgan", wgan, schedule, train, validation, device)
        self.wgan = wgan

    def loss(self, images: Images, indices: Tensor, part: int) -> Tensor:
        """D's loss, or in the last pass G's."""
        with as_whole():
            return self.wgan.fooled(images) if part == CRITIC_PASSES else self.objective(images, None)

    def objective(self, images: Images, labels: Labels | None) -> Tensor:
        """What D descends: minus the distance, and the penalty."""
        return PENALTY * self.wgan.penalty(images) - self.wgan.distance(images)

    def validate(self) -> dict[str, float]:
        """The distance of held-out images and generated ones by D."""
        with torch.no_grad(), evaluating(self.wgan):
            found = [(len(images), self.wgan.distance(images).item()) for _, images in self.held_out.chunks()]
        return {"validation_distance": sum(n * distance for n, distance in found) / len(self.held_out)}


class EncoderStage(GenerativeStage):
    """The attacker's encoder E in training before the trained, frozen G.

    Args:
        rival: whose encoder is trained.
        schedule: how.
        train: images.
        validation: held-out images, for the history only.
        device: where to train.
        noise: half-width of the uniform noise, in pixel values in [0, 1].
    """

    def __init__(
        self,
        rival: DefenseGAN,
        schedule: Schedule,
        train: Dataset,
        validation: Dataset,
        device: torch.device,
        *,
        noise: float = 0.3,
    ) -> None:
        super().__init__("encoder", rival.encoder, schedule, train, validation, device)
        self.rival, self.noise = rival.to(device), noise

    def objective(self, images: Images, labels: Labels | None) -> Tensor:
        """Squared error summed over the pixels, averaged over the batch."""
        seen = (images + self.noise * within_ball(images, "Linf")).clamp(0, 1)
        with evaluating(self.rival.generator):
            found = self.rival.generator(self.rival.encoder(seen))
        errors: Tensor = (found - seen).square().flatten(1).sum(1)
        return errors.mean()
