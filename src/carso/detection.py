"""Detection: an image is turned away where the defence's two witnesses, N on it and N on what is recalled, disagree.

    a(x) = log p(y | x) + 1/K sum_k log p(y | x_k)      p the softmax of N, y the elected class, x_k recalled from x
    x is accepted where a(x) >= t,    t = a_(j),  j = floor(alpha (n + 1))

with a_(1) <= ... <= a_(n) the agreements of n clean held-out images. A clean image that is drawn as those were is
turned away with a probability of at most alpha, over images and the draw of the n, up to the variation of a(x) with its
K latents: those that a threshold is set by share one draw of them, and a later image has another. Images that N was
trained on are not drawn as later ones are: it is surer of them, and more clean images than alpha are turned away.

Sources: V. Vovk, A. Gammerman and G. Shafer, Algorithmic learning in a random world, 2005 (split conformal prediction);
the two witnesses are ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from carso.errors import CarsoError, ModelError
from carso.nn.modes import evaluating
from carso.nn.querying import query
from carso.types import Images, Labels, Logits

WITNESSES = 64
"""K: candidates by which the agreement is measured."""

HELD_OUT = 1000
"""Clean images that are kept of a training to measure it on, at most."""

MOST = 0.2
"""The highest rate of false alarms for which a threshold is kept."""

LEAST = math.ceil(1 / MOST) - 1
"""Clean images that some threshold can be set by."""


@dataclass(frozen=True)
class Detection:
    """What a defence makes of images, and which of them it believes itself.

    Attributes:
        classes: the elected class (B,) of each image, also of those turned away.
        accepted: whether each image (B,) is believed.
        agreement: a (B,), at most 0; the higher, the more the witnesses agree.
        threshold: t.
    """

    classes: Labels
    accepted: Bool[Tensor, " batch"]
    agreement: Float[Tensor, " batch"]
    threshold: float


@dataclass(frozen=True)
class Calibration:
    """The agreements of clean held-out images, as far as thresholds need them.

    Attributes:
        n: how many images there were.
        lowest: their lowest agreements, ascending; for every alpha up to `MOST`.
    """

    n: int
    lowest: tuple[float, ...]

    @classmethod
    def of(cls, agreements: Float[Tensor, " n"]) -> Calibration:
        """That of n clean images.

        Raises:
            CarsoError: if there are too few for any threshold, or one of them is NaN.
        """
        n = len(agreements)
        if n < LEAST:
            raise CarsoError(f"{n} images are too few to set a threshold by; give at least {LEAST}")
        if agreements.isnan().any():
            raise CarsoError("the agreement of some clean images is NaN, with which no threshold can be set")
        return cls(n, tuple(agreements.double().sort().values[: _rank(MOST, n)].tolist()))

    def threshold(self, false_alarms: float) -> float:
        """t at a rate of false alarms alpha.

        Raises:
            CarsoError: if it is more than `MOST`, or less than so many images can promise.
        """
        if not 0 < false_alarms <= MOST:
            raise CarsoError(f"the rate of false alarms must be above 0 and at most {MOST:g}, not {false_alarms:g}")
        rank = _rank(false_alarms, self.n)
        if rank < 1:
            needed = math.ceil(1 / false_alarms) - 1
            raise CarsoError(
                f"a rate of false alarms of {false_alarms:g} needs {needed} clean images; this one was set on "
                f"{self.n}, which promise {1 / (self.n + 1):.2g}: call calibrate() with more"
            )
        return self.lowest[rank - 1]


def threshold_of(calibration: Calibration | None, false_alarms: float) -> float:
    """t at a rate of false alarms alpha.

    Raises:
        ModelError: if there was no calibration.
        CarsoError: if that rate cannot be promised.
    """
    if calibration is None:
        raise ModelError("the defence knows no threshold: call calibrate(images) with clean images held out")
    return calibration.threshold(false_alarms)


class Confidence(nn.Module):
    """A plain classifier that turns away what it is not sure of: a(x) = max over y of log p(y | x), in eval mode.

    Args:
        classifier: from images (B, C, H, W) to logits (B, classes).
    """

    def __init__(self, classifier: nn.Module) -> None:
        super().__init__()
        self.classifier = classifier
        self.calibration: Calibration | None = None
        self.class_names: Sequence[str] | None = getattr(classifier, "class_names", None)

    def forward(self, images: Images) -> Logits:
        """The classifier's logits (B, classes)."""
        return query(self.classifier, images)

    def detect(self, images: Images, false_alarms: float = 0.01) -> Detection:
        """The classifier's answers, and which it is sure of.

        Raises:
            CarsoError: as for `threshold_of`.
        """
        threshold = threshold_of(self.calibration, false_alarms)
        classes, found = self._judged(images)
        return Detection(classes, found >= threshold, found, threshold)

    def calibrate(self, images: Images) -> Calibration:
        """Set the thresholds by clean images (n, C, H, W) that the classifier was not trained on.

        It is surer of images that it was trained on: by them, more of the others are turned away than promised.

        Raises:
            CarsoError: if they are too few.
        """
        self.calibration = Calibration.of(self._judged(images)[1].cpu())
        return self.calibration

    def _judged(self, images: Images) -> tuple[Labels, Tensor]:
        with torch.no_grad(), evaluating(self):
            best = torch.cat([self(some).log_softmax(1) for some in images.split(HELD_OUT)]).max(1)
        return best.indices, best.values


def agreement(own: Logits, recalled: Logits, classes: Labels) -> Float[Tensor, " batch"]:
    """a (B,), from N's logits (B, classes) on the images, and the mean log-probabilities (B, classes) on candidates."""
    both = own.log_softmax(1) + recalled
    return both.gather(1, classes.unsqueeze(1)).squeeze(1)


def _rank(alpha: float, n: int) -> int:
    """floor(alpha (n + 1)), of the number that was written and not of its binary rounding."""
    return math.floor(alpha * (n + 1) + 1e-9)
