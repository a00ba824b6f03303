"""Detection: an image is turned away where the defence's two witnesses, N on it and N on what is recalled, disagree.

    a(x) = log p(y | x) + 1/K sum_k log p(y | x_k)      p the softmax of N, y the elected class, x_k recalled from x
    x is accepted where a(x) >= t,    t = a_(j),  j = floor(alpha (n + 1))

with a_(1) <= ... <= a_(n) the agreements of n clean held-out images. A clean image that is drawn as those were is
turned away with a probability of at most alpha, over images, latents and the draw of the n.

Sources: V. Vovk, A. Gammerman and G. Shafer, Algorithmic learning in a random world, 2005 (split conformal prediction);
the two witnesses are ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from carso.errors import CarsoError
from carso.types import Labels, Logits

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
        rank = _rank(false_alarms, self.n)
        if not 0 < false_alarms <= MOST:
            raise CarsoError(f"the rate of false alarms must be above 0 and at most {MOST:g}, not {false_alarms:g}")
        if rank < 1:
            needed = math.ceil(1 / false_alarms) - 1
            raise CarsoError(
                f"a rate of false alarms of {false_alarms:g} needs {needed} clean images; this one was set on "
                f"{self.n}, which promise {1 / (self.n + 1):.2g}: call calibrate() with more"
            )
        return self.lowest[rank - 1]


def agreement(own: Logits, recalled: Logits, classes: Labels) -> Float[Tensor, " batch"]:
    """a (B,), from N's logits (B, classes) on the images, and the mean log-probabilities (B, classes) on candidates."""
    both = own.log_softmax(1) + recalled
    return both.gather(1, classes.unsqueeze(1)).squeeze(1)


def _rank(alpha: float, n: int) -> int:
    """floor(alpha (n + 1)), of the number that was written and not of its binary rounding."""
    return math.floor(alpha * (n + 1) + 1e-9)
