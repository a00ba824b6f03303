"""Randomised smoothing: the most probable answer under Gaussian noise, which comes with a certificate.

    f(x)   = argmax_k P(N(x + e) = k),  e ~ N(0, sigma^2 I)
    p      = lower bound of P(N(x + e) = A):  P(Bin(n, p) >= v) = alpha for v votes of n for A (Clopper and Pearson)
    R      = sigma Phi^-1(p) where p > 1/2, else the smoothed classifier abstains

With probability 1 - alpha over the noise, f answers A on every image within R of x in L2. A is the leader of a vote of
its own, before the n that are counted. N is trained on noisy images, L = E CE(N(x + e), y).

The noise of a call is drawn once and shared by its images: the certificate of every image is as good.

Source: J. Cohen, E. Rosenfeld and J. Z. Kolter, Certified adversarial robustness via randomized smoothing, ICML 2019.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from carso.data import Dataset
from carso.rivals.purified import normal
from carso.rivals.stage import noise
from carso.rivals.votes import Voted
from carso.training.classifier import ClassifierStage
from carso.training.recipe import ClassifierTraining
from carso.types import Images, Labels

HALVINGS = 50
"""Of the interval in which a probability is sought: it is found to 1e-15."""


@dataclass(frozen=True)
class Certificate:
    """What is certain of each image but for a probability of alpha.

    Attributes:
        classes: (B,); the leader, whether certified or not.
        radii: (B,) in L2, in units of [0, 1] pixels; 0 where the smoothed classifier abstains.
    """

    classes: Labels
    radii: Float[Tensor, " batch"]


class Smoothed(Voted):
    """Votes under Gaussian noise.

    Args:
        classifier: N, images (B, C, H, W) to logits (B, classes), trained on noisy images.
        sigma: standard deviation of the noise, in pixel values in [0, 1]; noisy images are not clipped.
        samples: votes of a prediction.

    Raises:
        ValueError: if sigma is not positive and finite, or samples less than 1.
    """

    def __init__(self, classifier: nn.Module, sigma: float = 0.25, samples: int = 100) -> None:
        super().__init__(classifier, samples)
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be positive and finite, not {sigma}")
        self.sigma = sigma

    def extra_repr(self) -> str:
        """What it does to an image."""
        return f"sigma={self.sigma}, {super().extra_repr()}"

    def version(self, images: Images, generator: torch.Generator | None = None) -> Images:
        """x + e, one e for all images."""
        return images + self.sigma * normal(1, *images.shape[1:], like=images, generator=generator)

    def certify(
        self,
        images: Images,
        *,
        selection: int = 100,
        samples: int = 10_000,
        alpha: float = 0.001,
        generator: torch.Generator | None = None,
    ) -> Certificate:
        """The leaders and their radii.

        Args:
            images: (B, C, H, W) in [0, 1].
            selection: votes by which the leader is chosen.
            samples: n.
            alpha: probability, per image, that the certificate is wrong.
            generator: source of the noise.

        Raises:
            ValueError: unless alpha lies between 0 and 1, and there are votes of both sorts.
        """
        if not 0 < alpha < 1:
            raise ValueError(f"alpha must be between 0 and 1, not {alpha}")
        leaders = self.votes(images, selection, generator).argmax(1)
        counted = self.votes(images, samples, generator).gather(1, leaders.unsqueeze(1)).squeeze(1)
        quantiles = torch.special.ndtri(lower_bound(counted, samples, alpha))
        return Certificate(leaders, (self.sigma * quantiles).clamp(min=0))


def lower_bound(votes: Labels, samples: int, alpha: float) -> Float[Tensor, " batch"]:
    """The one-sided Clopper-Pearson bound on a probability of which `votes` (B,) of so many samples speak.

    It is the alpha-quantile of Beta(v, n - v + 1), found by bisection; 0 of no votes.
    """
    distinct, which = votes.unique(return_inverse=True)
    low = torch.zeros(len(distinct), dtype=torch.float64, device=votes.device)
    high = torch.ones_like(low)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        above = upper_tail(distinct, samples, middle) > alpha
        low, high = torch.where(above, low, middle), torch.where(above, middle, high)
    bounds: Tensor = low.masked_fill(distinct == 0, 0.0)[which]
    return bounds


def upper_tail(votes: Labels, samples: int, p: Tensor) -> Tensor:
    """P(Bin(samples, p) >= votes) (B,), each in float64."""
    ways = torch.arange(samples + 1, dtype=torch.float64, device=votes.device)
    whole = torch.lgamma(ways[-1] + 1)
    chosen = whole - torch.lgamma(ways + 1) - torch.lgamma(samples - ways + 1)
    logs = chosen + torch.special.xlogy(ways, p.unsqueeze(1)) + torch.special.xlog1py(samples - ways, -p.unsqueeze(1))
    total: Tensor = logs.masked_fill(ways < votes.unsqueeze(1), -torch.inf).logsumexp(1)
    return total.exp()


class NoisyStage(ClassifierStage):
    """N in training on noisy images; the schedule has no attacks.

    Args:
        rival: whose classifier is trained.
        schedule: how.
        train: labelled images.
        validation: held-out labelled images, for the history only.
        device: where to train.
    """

    def __init__(
        self, rival: Smoothed, schedule: ClassifierTraining, train: Dataset, validation: Dataset, device: torch.device
    ) -> None:
        super().__init__("smoothing", rival.classifier, schedule, train, validation, device)
        self.sigma = rival.sigma

    def loss(self, images: Images, indices: Tensor, part: int) -> Tensor:
        """Mean cross-entropy on noisy images."""
        return super().loss(images + self.sigma * noise(images), indices, part)
