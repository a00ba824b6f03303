"""Auto-PGD: projected gradient ascent with momentum that chooses its own step size.

    u       = P(x_t + eta_t s(g_t))
    x_{t+1} = P(x_t + a (u - x_t) + (1 - a) (x_t - x_{t-1}))      a = 3/4, and 1 in the first step

    P, s    projection and unit step, as for PGD
    g_t     gradient of the loss at x_t
    eta_t   step size, per image; 2 eps at first

At the checkpoints w_j = ceil(p_j T), where p_1 = 0.22 and p_{j+1} = p_j + max(p_j - p_{j-1} - 0.03, 0.06), an image's
eta is halved and its ascent goes on from the best point so far, if either

    the loss rose in fewer than 3/4 of the steps since the last checkpoint, or
    eta was not halved at the last checkpoint and the best loss is still what it was there.

In L1 there is no momentum, eta is eps at first, and s moves a share q of the components, 0.2 at first, but for those at
a wall of the box. After each twenty-fifth of the run, of n components,

    q = m / (1.5 n)                                         m: how many the best point so far moves
    eta = eps, and on from the best point                   where m fell below 0.95 of what it was
    eta = max(eta / 1.5, eps / 10)                          elsewhere

Sources: F. Croce and M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020, algorithm 1; in L1 "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers",
ICML 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import repeat as repeated
from typing import ClassVar

import torch
from torch import Generator, Tensor

from carso.attacks.ball import project, unit
from carso.attacks.budget import bounded, reach
from carso.attacks.losses import Loss, loss_of
from carso.attacks.objective import Objective, is_random, repeat
from carso.types import Budget, Classifier, Images, Labels, Norm, at_least_one

MOMENTUM = 0.25
"""1 - a."""
PERSISTENCE = 0.75

FIRST_SHARE, SPARSER, SHRINKING, LEAST, INTERVAL = 0.2, 0.95, 1.5, 10.0, 0.04
"""In L1: the share at first, what counts as sparser, by what shares and steps shrink, down to which part of the first,
and the share of the run between checkpoints."""


@bounded
def apgd(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    steps: int = 100,
    restarts: int = 1,
    targeted: bool = False,
    loss: str | Loss = "cross_entropy",
    start: Images | None = None,
    eot: int = 1,
    generator: Generator | None = None,
) -> Images:
    """Auto-PGD, for deterministic and random models.

    A model that answers the same images twice alike is deterministic: its images rest at their first success. A run
    against a random model ends at its point of highest loss, and is judged by most of ten calls.

    Args:
        model: images to logits; its randomness, if any, is its own.
        images: (B, C, H, W) in [0, 1].
        labels: true classes, or the classes to reach if `targeted`.
        budget: norm and radius.
        steps: number of gradient steps T of each run.
        restarts: number of runs; each goes to the images that do not fool the model yet, or to all if that is random.
        targeted: descend the loss of `labels` instead of climbing it.
        loss: "cross_entropy", "margin", "dlr" or a callable (logits, labels) -> (B,).
        start: where the first run starts, (B, C, H, W); by default a random point of the ball.
        eot: calls of the model behind each gradient and loss, which are averaged over them.
        generator: source of the random starts.

    Returns:
        (B, C, H, W), within the budget and [0, 1].

    Raises:
        ValueError: if steps, restarts or eot is not positive.
        ModelError: if the model has no gradient.
    """
    at_least_one(steps=steps, restarts=restarts, eot=eot)
    objective = Objective(model, loss_of(loss, targeted), targeted, eot, is_random(model, images))

    def run(images: Images, labels: Labels, begin: Images) -> Images:
        return _climb(objective, images, labels, begin, budget, steps)

    return repeat(run, objective, images, labels, budget, restarts=restarts, start=start, generator=generator)


@dataclass
class _Ascent:
    """A run under way; every field has one row per image."""

    momentum: ClassVar[float] = MOMENTUM

    index: Tensor
    images: Tensor
    labels: Tensor
    x: Tensor
    previous: Tensor
    gradient: Tensor
    loss: Tensor
    best: Tensor
    best_gradient: Tensor
    best_loss: Tensor
    best_fooled: Tensor
    eta: Tensor
    rises: Tensor
    halved: Tensor
    loss_before: Tensor

    @classmethod
    def begin(cls, objective: Objective, images: Images, labels: Labels, start: Images, eps: float) -> _Ascent:
        """At `start`, with the longest step."""
        loss, gradient, fooled = objective(start, labels)
        return cls(
            index=torch.arange(len(images), device=images.device),
            images=images,
            labels=labels,
            x=start,
            previous=start,
            gradient=gradient,
            loss=loss,
            best=start.clone(),
            best_gradient=gradient.clone(),
            best_loss=loss,
            best_fooled=fooled,
            eta=images.new_full((len(images), 1, 1, 1), 2 * eps),
            rises=torch.zeros_like(labels),
            halved=torch.ones_like(fooled),
            loss_before=loss,
        )

    @staticmethod
    def lengths(steps: int) -> Iterator[int]:
        """Of the intervals between checkpoints."""
        return checkpoints(steps)

    def keep(self, rows: Tensor) -> None:
        """Let the other images go."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name)[rows])

    def step(self, norm: Norm, eps: float, momentum: float) -> None:
        """Move x along the gradient and along the last move."""
        u = project(self.x + self.eta * self.direction(norm), self.images, eps, norm)
        moved = self.x + (1 - momentum) * (u - self.x) + momentum * (self.x - self.previous)
        self.previous, self.x = self.x, project(moved, self.images, eps, norm) if momentum else u

    def direction(self, norm: Norm) -> Images:
        """s."""
        return unit(self.gradient, norm)

    def note(self, loss: Tensor, gradient: Tensor, fooled: Tensor, rest: bool) -> None:
        """Record what was found at x; the best point is that of highest loss, or the first success if it may `rest`."""
        self.rises = self.rises + (loss > self.loss)
        self.loss, self.gradient = loss, gradient
        better = (loss > self.best_loss) | (fooled & rest)
        self.best_loss = torch.where(better, loss, self.best_loss)
        self.best_fooled = torch.where(better, fooled, self.best_fooled)
        self.best[better], self.best_gradient[better] = self.x[better], gradient[better]

    def checkpoint(self, length: int) -> None:
        """Halve the step where the ascent stalls, and go on from the best point there."""
        stalled = ~self.halved & (self.best_loss <= self.loss_before)
        self.halved = (self.rises <= PERSISTENCE * length) | stalled
        back = self.halved.view(-1, 1, 1, 1)
        self.eta = torch.where(back, self.eta / 2, self.eta)
        self.x = torch.where(back, self.best, self.x)
        self.gradient = torch.where(back, self.best_gradient, self.gradient)
        self.loss_before, self.rises = self.best_loss, torch.zeros_like(self.rises)


@dataclass
class _SparseAscent(_Ascent):
    """A run in L1, of steps that move ever fewer components."""

    momentum: ClassVar[float] = 0.0

    longest: Tensor
    share: Tensor
    moved: Tensor

    @classmethod
    def begin(cls, objective: Objective, images: Images, labels: Labels, start: Images, eps: float) -> _SparseAscent:
        """At `start`, with the longest step."""
        plain = _Ascent.begin(objective, images, labels, start, eps)
        longest = images.new_full((len(images), 1, 1, 1), eps)
        share, moved = (images.new_full((len(images),), value) for value in (FIRST_SHARE, images[0].numel()))
        return cls(**{**vars(plain), "eta": longest}, longest=longest, share=share, moved=moved)

    @staticmethod
    def lengths(steps: int) -> Iterator[int]:
        """Of the intervals between checkpoints: all alike."""
        return repeated(max(1, int(INTERVAL * steps)))

    def direction(self, norm: Norm) -> Images:
        """s, of the images' own shares."""
        return unit(self.gradient, norm, self.x, self.share)

    def checkpoint(self, length: int) -> None:
        """Begin anew from the best point where it has become sparser, else shorten the step."""
        moved = (self.best != self.images).flatten(1).sum(1).to(self.moved)
        sparser = (moved < SPARSER * self.moved).view(-1, 1, 1, 1)
        self.share, self.moved = moved / (SHRINKING * self.images[0].numel()), moved
        shorter = torch.maximum(self.eta / SHRINKING, self.longest / LEAST)
        self.eta = torch.where(sparser, self.longest, shorter)
        self.x = torch.where(sparser, self.best, self.x)
        self.gradient = torch.where(sparser, self.best_gradient, self.gradient)


def _climb(objective: Objective, images: Images, labels: Labels, start: Images, budget: Budget, steps: int) -> Images:
    """One run from `start`: the point of highest loss, or the first success against a deterministic model."""
    eps, rest, found = reach(images, budget), not objective.random, torch.empty_like(images)
    kind = _SparseAscent if budget.norm == "L1" else _Ascent
    ascent = kind.begin(objective, images, labels, start, eps)
    lengths = kind.lengths(steps)
    length = left = next(lengths)
    for t in range(steps):
        if rest and ascent.best_fooled.any():
            found[ascent.index] = ascent.best
            ascent.keep(~ascent.best_fooled)
        if not len(ascent.index):
            break
        ascent.step(budget.norm, eps, kind.momentum if t else 0.0)
        ascent.note(*objective(ascent.x, ascent.labels), rest)
        left -= 1
        if not left:
            ascent.checkpoint(length)
            length = left = next(lengths)
    found[ascent.index] = ascent.best
    return found


def checkpoints(steps: int) -> Iterator[int]:
    """The lengths of the intervals between the checkpoints of a run of that many steps."""
    length, least, shrink = (max(int(share * steps), 1) for share in (0.22, 0.06, 0.03))
    while True:
        yield length
        length = max(length - shrink, least)
