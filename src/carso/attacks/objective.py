"""What an attack climbs, for models that may answer at random.

    L(x) = 1/E sum_e loss(f_e(x), y)        f_e: the e-th of E calls of the model, each with its own randomness

The gradient of L is the expectation over transformation: an attack that ignores the randomness follows one draw of it.

Source: A. Athalye, L. Engstrom, A. Ilyas and K. Kwok, "Synthesizing robust adversarial examples", ICML 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from carso.attacks.ball import uniform
from carso.attacks.budget import confine
from carso.attacks.losses import Loss
from carso.fast import gradient_of, portions
from carso.nn.monitor import note
from carso.nn.querying import query, unqueried
from carso.types import Budget, Classifier, Images, Labels

CONFIRMATIONS = 10
"""Calls of a random model by which an image is judged."""

TRIED, TOGETHER, TRIES = 16, 4, 64
"""Images on which randomness is looked for, and half-way between as many; how many of them in a call; calls in all."""

Run = Callable[[Images, Labels, Images], Images]
"""(images, labels, start) -> the images that one run of an attack ends with."""


@dataclass(frozen=True)
class Objective:
    """The loss of a model's logits, its gradient, and whether the model is fooled.

    Args:
        model: images to logits.
        loss: (logits, labels) -> (B,).
        targeted: climb minus the loss; the labels are classes to reach.
        calls: E, the calls that are averaged.
        random: whether the model may answer the same images differently.
    """

    model: Classifier
    loss: Loss
    targeted: bool = False
    calls: int = 1
    random: bool = False

    def __call__(self, images: Images, labels: Labels) -> tuple[Tensor, Images, Tensor]:
        """The loss (B,), its gradient (B, C, H, W), and whether most calls were fooled (B,)."""
        cut = portions(self.model, images)
        found = map(self._climbed, images.tensor_split(cut), labels.tensor_split(cut))
        loss, gradient, fooled = map(torch.cat, zip(*found, strict=True))
        return loss, gradient, fooled

    def _climbed(self, images: Images, labels: Labels) -> tuple[Tensor, Images, Tensor]:
        x = images.detach().requires_grad_()
        loss, gradient, fooled = images.new_zeros(len(images)), torch.zeros_like(images), torch.zeros_like(labels)
        for _ in range(self.calls):
            value, hit = self._once(x, labels)
            gradient += gradient_of(value.sum(), x)
            loss, fooled = loss + comparable(value.detach()), fooled + hit
        return loss / self.calls, gradient / self.calls, 2 * fooled > self.calls

    def value(self, images: Images, labels: Labels) -> tuple[Tensor, Tensor]:
        """The loss (B,) and whether most calls were fooled (B,), without gradient."""
        return self._mean(images, labels, self.calls)

    def judge(self, images: Images, labels: Labels) -> tuple[Tensor, Tensor]:
        """The same by one call of a deterministic model, or by ten of a random one."""
        return self._mean(images, labels, max(self.calls, CONFIRMATIONS) if self.random else 1)

    def rests(self, fooled: Tensor) -> Tensor:
        """Which images (B,) an attack is done with: those that fool a deterministic model."""
        return fooled & (not self.random)

    def _once(self, images: Images, labels: Labels) -> tuple[Tensor, Tensor]:
        logits = query(self.model, images)
        value = self.loss(logits, labels)
        return -value if self.targeted else value, (logits.argmax(1) == labels) == self.targeted

    def _mean(self, images: Images, labels: Labels, calls: int) -> tuple[Tensor, Tensor]:
        cut = portions(self.model, images)
        parts = list(zip(images.tensor_split(cut), labels.tensor_split(cut), strict=True))
        with torch.no_grad():
            found = [[self._once(*part) for _ in range(calls)] for part in parts]
        values = torch.cat([torch.stack([comparable(value) for value, _ in each], dim=1) for each in found])
        hits = torch.cat([torch.stack([hit for _, hit in each], dim=1) for each in found])
        return values.mean(1), 2 * hits.sum(1) > calls


def comparable(losses: Tensor) -> Tensor:
    """Losses (B, ...) with NaN, which compares as false, below all others; what is not finite is noted."""
    note(losses)
    return losses.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf)


def is_random(model: Classifier, images: Images) -> bool:
    """Whether calls of the model differ, on images spread over the batch or half-way between, where it is least sure.

    Two calls are made on all of these, then many on a few of them each: a model that is noisy in a tenth of its calls
    is taken for deterministic once in a thousand times. A model that says in an attribute `varies` whether it does is
    not called; one that is no success where it is fooled may say so, too, and no attack rests there.

    Args:
        model: images to logits; its randomness, if any, is its own.
        images: (B, C, H, W) in [0, 1].
    """
    said = getattr(unqueried(model), "varies", None)
    if isinstance(said, bool):
        return said
    tried = min(len(images), TRIED)
    places = torch.linspace(0, len(images) - 1, tried, device=images.device, dtype=torch.float32).long()
    spread = images[places]
    spread = torch.cat([spread, (spread + spread.roll(1, 0)) / 2])
    parts = spread.split(TOGETHER)
    return _differs(model, spread, 2) or any(_differs(model, few, TRIES // len(parts)) for few in parts)


@torch.no_grad()
def _differs(model: Classifier, images: Images, calls: int) -> bool:
    """Whether one of several calls of the model answers otherwise than the first; a NaN is like another."""
    first = model(images.clone()).nan_to_num()
    return any(not first.equal(model(images.clone()).nan_to_num()) for _ in range(calls - 1))


def _start(start: Any, images: Images) -> Images:
    found = torch.as_tensor(start).to(images)
    if found.shape != images.shape:
        raise ValueError(f"start must have the images' shape, {tuple(images.shape)}, not {tuple(found.shape)}")
    return found


def improves(loss: Tensor, fooled: Tensor, reached: Tensor, won: Tensor) -> Tensor:
    """Where (B,) a run did better than the best before it: it fools and that did not, or as that and with more loss."""
    return torch.where(fooled == won, loss > reached, fooled)


def repeat(
    run: Run,
    objective: Objective,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    restarts: int,
    start: Images | None,
    generator: Generator | None,
) -> Images:
    """The best of several runs per image: the first that fools the model, else the one of highest loss.

    Against a random model no image rests: of the runs that fool it, if any do, it is the one of highest loss.

    Args:
        run: one run from given points.
        objective: judges what a run ends with.
        images: centres of the balls.
        labels: as the objective takes them.
        budget: of the attack.
        restarts: runs; each goes to the images that do not fool the model yet, or to all if that is random.
        start: where the first run starts; the others, or all if None, start uniformly in the ball.
        generator: source of the random starts.
    """
    start = None if start is None else _start(start, images)
    best, reached = images.clone(), images.new_full((len(images),), -torch.inf)
    left, won = torch.arange(len(images), device=images.device), torch.zeros_like(labels, dtype=torch.bool)
    for restart in range(restarts):
        begin = start[left] if start is not None and restart == 0 else uniform(images[left], budget, generator)
        begin = confine(begin, images[left], budget)
        found = confine(run(images[left], labels[left], begin), images[left], budget)
        if restarts == 1:
            return found
        loss, fooled = objective.judge(found, labels[left])
        better = improves(loss, fooled, reached[left], won[left])
        best[left[better]], reached[left[better]] = found[better], loss[better].to(reached.dtype)
        won[left] |= fooled
        left = left[~objective.rests(fooled)]
        if not len(left):
            break
    return best
