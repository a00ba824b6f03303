"""A denoising autoencoder before the classifier: the purifier without the representation.

    f(x) = N(A(x))
    L    = BCE(A(x'), x)      summed over pixels; x' = x, x with noise, or x attacked, in equal parts

N: a classifier, trained before and left as it is; A: an encoder to a code and the decoder of it, dense. Attacks are
directed at N alone and lead away from its own answer, as in the training of a CARSO.

Sources: S. Gu and L. Rigazio, Towards deep neural network architectures robust to adversarial examples, 2014;
P. Vincent et al., Extracting and composing robust features with denoising autoencoders, ICML 2008.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from carso.data import Dataset
from carso.nn import evaluating, query
from carso.nn.perceptron import perceptron
from carso.purifier import reconstruction_loss
from carso.rivals.purified import Purified
from carso.rivals.stage import GenerativeStage
from carso.training.mixture import Mixture
from carso.training.recipe import AttackSpec, Schedule
from carso.types import Images, Labels, at_least_one


class Autoencoder(nn.Module):
    """A, dense.

    Args:
        shape: (C, H, W) of the images.
        hidden: neurons of the encoder's hidden layers; the decoder's are the same in reverse.
        code: neurons between the two.

    Raises:
        ValueError: if code is less than 1.
    """

    def __init__(self, shape: Sequence[int], hidden: Sequence[int] = (512,), code: int = 128) -> None:
        super().__init__()
        at_least_one(code=code)
        self.shape, pixels = tuple(shape), math.prod(shape)
        self.layers = perceptron((pixels, *hidden, code, *reversed(hidden), pixels), nn.Sigmoid())

    def forward(self, images: Images) -> Images:
        """Images (B, C, H, W) in [0, 1] to denoised ones."""
        pixels: Tensor = self.layers(images.flatten(1))
        return pixels.reshape(-1, *self.shape)


class Denoised(Purified):
    """An image without its noise, classified; differentiable throughout.

    Args:
        classifier: N, images (B, C, H, W) in [0, 1] to logits (B, classes).
        autoencoder: A, images to images of the same shape.
    """

    def __init__(self, classifier: nn.Module, autoencoder: nn.Module) -> None:
        super().__init__(classifier)
        self.autoencoder = autoencoder

    def _purified(self, images: Images, generator: torch.Generator | None) -> Images:
        purified: Tensor = self.autoencoder(images)
        return purified


class DenoisingStage(GenerativeStage):
    """A in training before its frozen classifier.

    Args:
        rival: whose autoencoder is trained.
        schedule: how.
        train: images.
        validation: held-out images, for the history only.
        device: where to train.
        attacks: on N, or noise; a batch is in equal parts clean and under each of them.
    """

    def __init__(
        self,
        rival: Denoised,
        schedule: Schedule,
        train: Dataset,
        validation: Dataset,
        device: torch.device,
        attacks: Sequence[AttackSpec],
    ) -> None:
        super().__init__("denoising autoencoder", rival.autoencoder, schedule, train, validation, device)
        self.rival, self.mixture = rival.to(device), Mixture(attacks)

    def objective(self, images: Images, labels: Labels | None) -> Tensor:
        """L, averaged over the batch."""
        reconstructions: Tensor = self.module(self._seen(images))
        return reconstruction_loss(reconstructions, images).mean()

    @torch.enable_grad()
    def _seen(self, images: Images) -> Images:
        classifier = self.rival.classifier
        with evaluating(classifier):
            answers = query(classifier, images).argmax(1)
            return self.mixture.mix(classifier, images, answers)
