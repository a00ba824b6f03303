"""Losses that an attack climbs, one value per image.

    cross-entropy   log sum_k exp(z_k) - z_y
    margin          max_{k != y} z_k - z_y                                  > 0: misclassified
    DLR             (max_{k != y} z_k - z_y) / (z_(1) - z_(3))              the difference of logits ratio

    z        logits, z_(1) >= z_(2) >= ... in descending order
    y        label

All three are unchanged when a constant is added to every logit of an image, so log-probabilities serve as logits;
probabilities do not. A targeted attack descends the same losses with the target as label.

Source of DLR: F. Croce and M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020, equation 6. Of the margin: N. Carlini and D. Wagner, "Towards evaluating the
robustness of neural networks", S&P 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from carso.errors import ModelError
from carso.types import Labels, Logits

Losses: TypeAlias = Float[Tensor, " batch"]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, classes), labels (B,)) -> one value per image (B,), to be maximised."""


def cross_entropy(logits: Logits, labels: Labels) -> Losses:
    """Negative log-likelihood of the label."""
    return F.cross_entropy(logits, labels, reduction="none")


def margin(logits: Logits, labels: Labels) -> Losses:
    """The best other logit less the label's: positive exactly when the image is misclassified."""
    others = logits.scatter(1, labels[:, None], -math.inf)
    return others.amax(dim=1) - logits.gather(1, labels[:, None]).squeeze(1)


def dlr(logits: Logits, labels: Labels) -> Losses:
    """The margin in units of the gap between the first and the third logit: unchanged by any scaling of the logits.

    Raises:
        ModelError: if there are fewer than three classes.
    """
    if logits.shape[1] < 3:
        raise ModelError("the DLR loss needs at least 3 classes; use 'margin' for a binary model")
    first, _, third = logits.topk(3, dim=1).values.unbind(dim=1)
    return margin(logits, labels) / (first - third + 1e-12)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}


def loss_of(loss: str | Loss) -> Loss:
    """A loss by its name, or the callable itself.

    Raises:
        ValueError: for an unknown name.
    """
    if callable(loss):
        return loss
    if loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a callable, not {loss!r}")
    return LOSSES[loss]
