"""PuVAE: a class-conditional VAE projects the image on the manifold of every class; the nearest projection wins.

    z_y ~ q(z | x, y) = N(mu(x, y), sigma^2(x, y))      x_y = D(z_y, y) for every class y
    g(x) = x_y*,  y* = argmin_y ||x - x_y||_2           f(x) = N(g(x))
    L = l_RC BCE(x_y, x) + l_KL KL(q(z | x, y) || N(0, I)) + l_CE CE(N(x_y), y)      in training, y the true label

N: the classifier, trained before and left as it is; when an image is purified, z_y is its mean. BCE is summed over
pixels.

The argmin has no gradient. What an attacker differentiates in its place (`surrogate`) is the mixture of what N says of
every projection, each weighed by how near it is, as if pixels had Gaussian noise of unit variance:

    p_k = sum_y w_y p_N(k | x_y),  w_y = softmax_y(-||x - x_y||^2 / 2)

Source: U. Hwang et al., PuVAE: a variational autoencoder to purify adversarial examples, IEEE Access 7, 2019; networks
and weights of the loss are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from carso.data import Dataset
from carso.nn import evaluating, query
from carso.nn.modes import frozen
from carso.nn.perceptron import perceptron
from carso.purifier import Moments, kl_divergence, reconstruction_loss
from carso.rivals.purified import Purified, of_each
from carso.rivals.stage import GenerativeStage, noise
from carso.training.recipe import Schedule
from carso.types import Images, Labels, Logits, at_least_one

Projections = Float[Tensor, "batch classes channels height width"]


class ConditionalVAE(nn.Module):
    """q(z | x, y) and D(z, y), dense.

    Args:
        shape: (C, H, W) of the images.
        classes: how many there are.
        latent: dimension of z.
        hidden: neurons of the encoder's hidden layers; the decoder's are the same in reverse.

    Raises:
        ValueError: if latent is less than 1.
    """

    def __init__(
        self, shape: Sequence[int], classes: int, latent: int = 32, hidden: Sequence[int] = (512, 256)
    ) -> None:
        super().__init__()
        at_least_one(latent=latent)
        self.shape, self.classes, pixels = tuple(shape), classes, math.prod(shape)
        self.encoder = perceptron((pixels + classes, *hidden, 2 * latent), nn.Identity())
        self.decoder = perceptron((latent + classes, *reversed(hidden), pixels), nn.Sigmoid())

    def encode(self, images: Images, labels: Labels) -> tuple[Moments, Moments]:
        """Mean and log-variance, each (B, latent), of q(z | x, y)."""
        moments: Tensor = self.encoder(torch.cat([images.flatten(1), self._marked(labels)], 1))
        mean, log_variance = moments.chunk(2, 1)
        return mean, log_variance

    def decode(self, latents: Moments, labels: Labels) -> Images:
        """D: latents (B, latent) and classes (B,) to images (B, C, H, W) in (0, 1)."""
        pixels: Tensor = self.decoder(torch.cat([latents, self._marked(labels)], 1))
        return pixels.reshape(-1, *self.shape)

    def forward(self, images: Images, labels: Labels) -> tuple[Images, Moments, Moments]:
        """Reconstructions (B, C, H, W) from one latent of q each, with its mean and log-variance (B, latent)."""
        mean, log_variance = self.encode(images, labels)
        latents = mean + noise(mean) * (log_variance / 2).exp()
        return self.decode(latents, labels), mean, log_variance

    def _marked(self, labels: Labels) -> Tensor:
        return F.one_hot(labels, self.classes).to(next(self.parameters()).dtype)


class PuVAE(Purified):
    """The nearest of an image's projections on the classes, classified.

    Args:
        classifier: N, images (B, C, H, W) in [0, 1] to logits (B, classes).
        vae: with `encode`, `decode` and `classes`.
    """

    def __init__(self, classifier: nn.Module, vae: ConditionalVAE) -> None:
        super().__init__(classifier)
        self.vae = vae

    def projections(self, images: Images) -> Projections:
        """x_y (B, classes, C, H, W) for every class y."""
        classes = self.vae.classes
        labels = torch.arange(classes, device=images.device).repeat(len(images))
        mean, _ = self.vae.encode(images.repeat_interleave(classes, 0), labels)
        projections: Tensor = self.vae.decode(mean, labels)
        return projections.view(len(images), classes, *images.shape[1:])

    def _purified(self, images: Images, generator: torch.Generator | None) -> Images:
        projections = self.projections(images)
        return of_each(projections, distances(images, projections).argmin(1))

    def surrogate(self, images: Images) -> Logits:
        """Log-probabilities (B, classes) of the mixture over all projections, differentiable in the images."""
        taken = self._taken(images)
        with evaluating(self):
            projections = self.projections(taken)
            logits = query(self.classifier, projections.flatten(0, 1)).unflatten(0, projections.shape[:2])
        nearness = (-distances(taken, projections) / 2).log_softmax(1)
        joint: Tensor = nearness.unsqueeze(2) + logits.log_softmax(2)
        return joint.logsumexp(1)


def distances(images: Images, projections: Projections) -> Float[Tensor, "batch classes"]:
    """||x - x_y||^2 of every image and each of its projections."""
    return (projections - images.unsqueeze(1)).square().flatten(2).sum(2)


class PuVAEStage(GenerativeStage):
    """The conditional VAE in training before its frozen classifier; the images need labels.

    Args:
        rival: whose VAE is trained.
        schedule: how.
        train: labelled images.
        validation: held-out labelled images, for the history only.
        device: where to train.
        kl: l_KL; l_RC is 1.
        cross_entropy: l_CE.
    """

    def __init__(
        self,
        rival: PuVAE,
        schedule: Schedule,
        train: Dataset,
        validation: Dataset,
        device: torch.device,
        *,
        kl: float = 1.0,
        cross_entropy: float = 10.0,
    ) -> None:
        super().__init__("puvae", rival.vae, schedule, train, validation, device)
        train.required_labels, validation.required_labels  # noqa: B018
        self.rival, self.kl, self.cross_entropy = rival.to(device), kl, cross_entropy

    def objective(self, images: Images, labels: Labels | None) -> Tensor:
        """L, averaged over the batch."""
        assert labels is not None
        reconstructions, mean, log_variance = self.rival.vae(images, labels)
        with evaluating(self.rival.classifier), frozen(self.rival.classifier):
            consistency = F.cross_entropy(query(self.rival.classifier, reconstructions), labels)
        elbo = reconstruction_loss(reconstructions, images) + self.kl * kl_divergence(mean, log_variance)
        loss: Tensor = elbo.mean() + self.cross_entropy * consistency
        return loss
