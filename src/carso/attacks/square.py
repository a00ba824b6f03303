"""Square attack: random search over squares, from scores alone.

    x_0     = x + eps * vertical stripes, each -1 or 1
    x_{t+1} = the candidate if its loss is at least that of x_t, else x_t

    Linf    a candidate sets a random square of the perturbation to eps or -eps, per channel
    L2      a candidate moves the energy of one square into a pyramid-shaped pattern in another, and rescales to eps
    L1      the same with absolute values in place of squares, and steeper pyramids

The squares cover a share p of the image, which falls from 0.8 on the schedule of the paper. Equal losses are accepted:
on a plateau, where scores say nothing, the search drifts instead of standing still.

Source: M. Andriushchenko, F. Croce, N. Flammarion and M. Hein, "Square attack: a query-efficient black-box adversarial
attack via random search", ECCV 2020; L1 as in the code of F. Croce and M. Hein, "Mind the box: l1-APGD for sparse
adversarial attacks on image classifiers", ICML 2021.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import torch
from torch import Generator, Tensor

from carso.attacks.ball import project
from carso.attacks.budget import bounded, reach
from carso.attacks.losses import Loss, loss_of
from carso.attacks.objective import Objective, is_random
from carso.nn.chance import home, signs
from carso.types import Budget, Classifier, Images, Labels, Norm, at_least_one

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After these many of 10,000 queries the share p halves."""

Propose: TypeAlias = Callable[[Images, Images, int], Images]
"""(images, perturbations, side) -> new perturbations."""


@bounded
def square(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    queries: int = 1000,
    share: float = 0.8,
    loss: str | Loss = "margin",
    generator: Generator | None = None,
) -> Images:
    """Random search from scores; an image rests once a deterministic model is fooled, and never where it is random.

    Args:
        model: images to scores whose differences matter: logits, or shares of a vote.
        images: (B, C, H, W) in [0, 1].
        labels: true classes.
        budget: norm and radius.
        queries: evaluations per image, besides those that confirm what fools a random model.
        share: p at the start.
        loss: "margin", "cross_entropy", "dlr" or a callable (scores, labels) -> (B,).
        generator: source of the squares.

    Returns:
        (B, C, H, W), within the budget and [0, 1].

    Raises:
        ValueError: if queries is not positive, or share not in (0, 1].
    """
    at_least_one(queries=queries)
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], not {share}")
    objective = Objective(model, loss_of(loss), random=is_random(model, images))
    dice = _Dice(generator)
    eps, pixels = reach(images, budget), images.shape[2] * images.shape[3]
    start, propose = (_stripes, _Squares(dice, eps)) if budget.norm == "Linf" else _of_pyramids(dice, eps, budget.norm)
    x = images + start(images, eps, dice)
    x = project(x, images, eps, budget.norm)
    reached, fooled = _confirmed(objective, x, labels, images.new_full((len(images),), -torch.inf))
    left = (~objective.rests(fooled)).nonzero().squeeze(1)
    for query in range(1, queries):
        if not len(left):
            break
        side = max(1, round(math.sqrt(portion(query / queries, share) * pixels)))
        side = min(side, *images.shape[2:])
        proposed = project(
            images[left] + propose(images[left], x[left] - images[left], side), images[left], eps, budget.norm
        )
        found, fooled = _confirmed(objective, proposed, labels[left], reached[left])
        rests = objective.rests(fooled)
        accepted = (found >= reached[left]) | rests
        x[left[accepted]], reached[left[accepted]] = proposed[accepted], found[accepted]
        left = left[~rests]
    return x


def portion(done: float, share: float) -> float:
    """p when that share of the queries is done."""
    return math.ldexp(share, -sum(10_000 * done > query for query in HALVINGS))


def _confirmed(objective: Objective, images: Images, labels: Labels, reached: Tensor) -> tuple[Tensor, Tensor]:
    """The loss (B,) and the success (B,); a random model's successes of no less than the loss reached are averaged."""
    loss, fooled = objective.value(images, labels)
    doubted = fooled & (loss >= reached)
    if objective.random and doubted.any():
        at = doubted.nonzero().squeeze(1)
        loss[at], fooled[at] = objective.judge(images[at], labels[at])
    return loss, fooled


class _Dice:
    """Random signs and positions, drawn where the generator lives."""

    def __init__(self, generator: Generator | None) -> None:
        self.generator = generator

    def signs(self, *shape: int, like: Tensor) -> Tensor:
        return signs(shape, like, self.generator)

    def corner(self, shape: torch.Size, side: int) -> tuple[slice, slice]:
        """A window of that side somewhere in images of that shape."""
        device = home(self.generator, torch.device("cpu"))
        rows, columns = (
            int(torch.randint(size - side + 1, (), generator=self.generator, device=device)) for size in shape[2:]
        )
        return slice(rows, rows + side), slice(columns, columns + side)


def _stripes(images: Images, eps: float, dice: _Dice) -> Images:
    batch, channels, _, width = images.shape
    return eps * dice.signs(batch, channels, 1, width, like=images).expand_as(images)


class _Squares:
    """Linf: one square, all eps or all -eps per image and channel."""

    def __init__(self, dice: _Dice, eps: float) -> None:
        self.dice, self.eps = dice, eps

    def __call__(self, images: Images, delta: Images, side: int) -> Images:
        rows, columns = self.dice.corner(images.shape, side)
        delta = delta.clone()
        delta[:, :, rows, columns] = self.eps * self.dice.signs(*images.shape[:2], 1, 1, like=images)
        return delta


def _of_pyramids(dice: _Dice, eps: float, norm: Norm) -> tuple[Callable[..., Images], Propose]:
    power = 1 if norm == "L1" else 2
    return partial(_tiles, power=power), _Pyramids(dice, eps, power)


class _Pyramids:
    """L2 and L1: the energy of one square, its sum of |delta|^power, goes into a pattern in another."""

    def __init__(self, dice: _Dice, eps: float, power: int) -> None:
        self.dice, self.eps, self.power = dice, eps, power

    def __call__(self, images: Images, delta: Images, side: int) -> Images:
        batch, channels, height, width = images.shape
        side = min(max(side, 3) | 1, height, width)
        target, source = self.dice.corner(images.shape, side), self.dice.corner(images.shape, side)
        both = torch.zeros(height, width, dtype=torch.bool, device=images.device)
        both[target] = both[source] = True
        power = self.power
        spent = delta.abs().pow(power).sum((1, 2, 3), keepdim=True)
        spare = (self.eps**power - spent).clamp_min(0) / channels
        energy = spare + (delta * both).abs().pow(power).sum((2, 3), keepdim=True)
        shape = _either_way(pyramids(side, images, power), self.dice)
        fresh = self.dice.signs(batch, channels, 1, 1, like=images) * shape
        pattern = fresh + _normed(delta[(..., *target)], power)
        delta = delta.clone()
        delta[(..., *source)] = 0
        delta[(..., *target)] = _normed(pattern, power) * energy.pow(1 / power)
        return self.eps * _normed(delta, power, (1, 2, 3))


def _tiles(images: Images, eps: float, dice: _Dice, power: int) -> Images:
    batch, channels, height, width = images.shape
    side = max(2, min(height, width) // 5)
    delta = torch.zeros_like(images)
    for top in range(height % side // 2, height - side + 1, side):
        for left in range(width % side // 2, width - side + 1, side):
            pattern = dice.signs(batch, channels, 1, 1, like=images) * _either_way(pyramids(side, images, power), dice)
            delta[:, :, top : top + side, left : left + side] = pattern
    return eps * _normed(delta, power, (1, 2, 3))


def _either_way(pattern: Tensor, dice: _Dice) -> Tensor:
    """The pattern, or its transpose."""
    return pattern.mT if dice.signs(1, like=pattern) > 0 else pattern


def pyramids(side: int, like: Tensor, power: int = 2) -> Tensor:
    """A hill above a valley of the same norm, (side, side), together of norm 1."""
    hills = _hill(side // 2, side, power), -_hill(side - side // 2, side, power)
    return _normed(torch.cat(hills).to(like), power)


def _hill(height: int, width: int, power: int) -> Tensor:
    """sum_{n >= d} 1 / (n + 1)^(2 p) at the distance d from the centre, in the maximum norm; p: 1 in L2, 2 in L1."""
    cpu = torch.device("cpu")
    rows, columns = (torch.arange(size, device=cpu) - size // 2 for size in (height, width))
    distance = torch.maximum(rows.abs().unsqueeze(1), columns.abs())
    rings = torch.arange(1, max(height, width) // 2 + 2, dtype=torch.float32, device=cpu)
    tails = rings.pow(-2 if power == 2 else -4).flip(0).cumsum(0).flip(0)
    return _normed(tails[distance], power)


def _normed(patterns: Tensor, power: int, over: tuple[int, ...] = (-2, -1)) -> Tensor:
    """Of unit norm over these dimensions, L2 or L1 by the power, or zero."""
    norms = torch.linalg.vector_norm(patterns, power, dim=over, keepdim=True)
    normed: Tensor = patterns / norms.clamp_min(torch.finfo(patterns.dtype).tiny)
    return normed
