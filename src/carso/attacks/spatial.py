"""Rotation and translation, the worst of a grid of both: an attack that no ball of a norm holds.

    x'(p) = x(R_theta (p - b)),    max over theta in [-6 s, 6 s] degrees, b in [-0.02 s, 0.02 s]^2 of the side

s is the severity; at 5 the ranges are 30 degrees and a tenth of the side. There is no gradient to be misled: every pose
of the grid is tried, with the defence's own answer or its surrogate's.

Source: L. Engstrom, B. Tran, D. Tsipras, L. Schmidt and A. Madry, Exploring the landscape of spatial robustness,
ICML 2019.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Generator, Tensor

from carso.attacks.contract import checked
from carso.attacks.losses import margin
from carso.corruptions.warp import DEGREES, SHIFT, posed
from carso.types import Classifier, Images, Labels, Severity, at_least_one


@checked
def spatial(
    model: Classifier,
    images: Images,
    labels: Labels,
    severity: Severity,
    *,
    turns: int = 7,
    shifts: int = 5,
    generator: Generator | None = None,
) -> Images:
    """Each image in the pose of the grid in which the best other class leads its label by most.

    Args:
        model: images to logits, without gradient.
        images: (B, C, H, W) in [0, 1].
        labels: true classes.
        severity: how far it may be turned and moved.
        turns: angles of the grid, evenly spaced; odd numbers have 0 among them.
        shifts: the same for each direction.
        generator: not used; the grid leaves nothing to chance.

    Returns:
        (B, C, H, W) in [0, 1].

    Raises:
        ValueError: if turns or shifts are not positive, or the severity is no `Severity`.
    """
    if not isinstance(severity, Severity):
        raise ValueError(f"severity must be a carso.Severity(level), not {severity!r}")
    at_least_one(turns=turns, shifts=shifts)
    reach = SHIFT[severity.level - 1] * min(images.shape[2:])
    worst, most = images, torch.full_like(labels, -torch.inf, dtype=images.dtype)
    degrees, pixels = _evenly(DEGREES[severity.level - 1], turns), _evenly(reach, shifts)
    with torch.no_grad():
        for turn, right, down in product(degrees, pixels, pixels):
            pose = _posed(images, turn, right, down)
            found = margin(model(pose), labels)
            worst = torch.where((found > most)[:, None, None, None], pose, worst)
            most = torch.maximum(found, most)
    return worst


def _evenly(reach: float, count: int) -> list[float]:
    return torch.linspace(-reach, reach, count).tolist() if count > 1 else [0.0]


def _posed(images: Tensor, turn: float, right: float, down: float) -> Images:
    by = images.new_tensor([right, down]).expand(len(images), 2)
    return posed(images, images.new_full((len(images),), turn), by).clamp(0, 1)
