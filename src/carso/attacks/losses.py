"""Losses that an attack climbs, one value per image.

    cross-entropy   log sum_k exp(z_k) - z_y
    margin          max_{k != y} z_k - z_y                                  > 0: misclassified
    DLR             (max_{k != y} z_k - z_y) / (z_(1) - z_(3))              the difference of logits ratio
    targeted DLR    (max_{k != t} z_k - z_t) / (z_(1) - (z_(3) + z_(4)) / 2)

    z        logits, z_(1) >= z_(2) >= ... in descending order
    y, t     label, and the class to reach

All are unchanged when a constant is added to every logit of an image, so log-probabilities serve as logits;
probabilities do not. A targeted attack descends the same losses with the target as label, but for DLR, whose ratio is 1
and without slope wherever the target is third.

Source of DLR: F. Croce and M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse
parameter-free attacks", ICML 2020, equations 6 and 7; in the latter the true class stands for the best other one, of
which a targeted attack is told nothing here. Of the margin: N. Carlini and D. Wagner, "Towards evaluating the
robustness of neural networks", S&P 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from carso.errors import ModelError
from carso.types import Labels, Logits

Losses: TypeAlias = Float[Tensor, " batch"]
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""(logits (B, classes), labels (B,)) -> one value per image (B,), to be maximised."""

DLR_CLASSES, TARGETED_CLASSES = 3, 4
"""Classes that DLR compares, and that of a targeted attack."""


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
    if logits.shape[1] < DLR_CLASSES:
        raise ModelError(f"the DLR loss needs at least {DLR_CLASSES} classes; use 'margin' for a binary model")
    first, _, third = logits.topk(DLR_CLASSES, dim=1).values.unbind(dim=1)
    return margin(logits, labels) / (first - third + 1e-12)


def targeted_dlr(logits: Logits, targets: Labels) -> Losses:
    """The DLR that an attack towards the targets (B,) descends: negative exactly when the target is reached.

    Raises:
        ModelError: if there are fewer than four classes.
    """
    if logits.shape[1] < TARGETED_CLASSES:
        raise ModelError(f"the targeted DLR loss needs at least {TARGETED_CLASSES} classes; use 'margin' for fewer")
    first, _, third, fourth = logits.topk(TARGETED_CLASSES, dim=1).values.unbind(dim=1)
    return margin(logits, targets) / (first - (third + fourth) / 2 + 1e-12)


LOSSES: dict[str, Loss] = {"cross_entropy": cross_entropy, "margin": margin, "dlr": dlr}


def slope_of(loss: Loss, targeted: bool = False) -> Loss:
    """The gradient (B, classes) of the summed loss with respect to the logits; of minus the loss if `targeted`."""
    sign = -1 if targeted else 1
    return partial(_cross_entropy_slope, sign) if loss is cross_entropy else partial(_slope, loss, sign)


def _cross_entropy_slope(sign: int, logits: Logits, labels: Labels) -> Logits:
    """softmax(z) - onehot(y), by classes in memory, as a folded chain takes it."""
    p = torch.softmax(logits.T, dim=0)
    p.scatter_add_(0, labels.unsqueeze(0), p.new_full((1, len(labels)), -1))
    return p.mul_(sign).T


@torch.enable_grad()
def _slope(loss: Loss, sign: int, logits: Logits, labels: Labels) -> Logits:
    leaf = logits.detach().requires_grad_()
    (slope,) = torch.autograd.grad(sign * loss(leaf, labels).sum(), leaf)
    return slope


def loss_of(loss: str | Loss, targeted: bool = False) -> Loss:
    """A loss by its name, or the callable itself; of DLR the one that is descended if `targeted`.

    Raises:
        ValueError: for an unknown name.
    """
    if not callable(loss) and loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)} or a callable, not {loss!r}")
    found = loss if callable(loss) else LOSSES[loss]
    return targeted_dlr if targeted and found is dlr else found
