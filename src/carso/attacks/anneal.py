"""PGD whose step shrinks from a leap across the ball to almost nothing.

    x_{t+1} = P(x_t + eta_t s(g_t,q)),    eta_t = eps (c + (2 - c) (1 + cos(pi t / T)) / 2),    c = 1/50

    P, s    projection and unit step, as for PGD
    g_t     gradient of the loss at x_t, of fresh randomness if the model has any
    g_t,q   its largest components, a share q of them; by default all, in L1 a fiftieth
    T       number of steps

The early leaps visit many basins, the late steps settle in one. Nothing adapts to the losses met on the way, so noise
in them cannot mislead it as it does the step-size control of Auto-PGD: one call of a random model per step is enough,
and the last point, unlike that of the highest measured loss, is not chosen for lucky draws.

In L2, steps along few components change few pixels by much. Against a model that takes no notice of small changes, such
as one that rounds its pixels, whatever spreads over all of them is lost.

The schedule is that of I. Loshchilov and F. Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
"""

from __future__ import annotations

import torch
from torch import Generator

from carso.attacks.ball import annealing, project, spent, unit
from carso.attacks.budget import bounded, reach
from carso.attacks.losses import Loss, loss_of
from carso.attacks.objective import Objective, is_random, repeat
from carso.types import Budget, Classifier, Images, Labels, at_least_one


@bounded
def annealed(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    steps: int = 200,
    restarts: int = 1,
    targeted: bool = False,
    loss: str | Loss = "cross_entropy",
    start: Images | None = None,
    eot: int = 1,
    share: float | None = None,
    generator: Generator | None = None,
) -> Images:
    """PGD with an annealed step, for deterministic and random models.

    A model that answers the same images twice alike is deterministic: its images rest at their first success. A random
    model is judged after each run, by most of ten calls.

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
        eot: calls of the model behind each gradient, which is averaged over them.
        share: q, in (0, 1], of the components that a step follows; few make large changes of few pixels. By default
            all, in L1 a fiftieth.
        generator: source of the random starts.

    Returns:
        (B, C, H, W), within the budget and [0, 1].

    Raises:
        ValueError: if steps, restarts or eot is not positive, or share is none.
        ModelError: if the model has no gradient.
    """
    at_least_one(steps=steps, restarts=restarts, eot=eot)
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], not {share}")
    objective = Objective(model, loss_of(loss, targeted), targeted, eot, is_random(model, images))

    def run(images: Images, labels: Labels, begin: Images) -> Images:
        return anneal(objective, images, labels, begin, budget, steps, share)

    return repeat(run, objective, images, labels, budget, restarts=restarts, start=start, generator=generator)


def anneal(
    objective: Objective,
    images: Images,
    labels: Labels,
    start: Images,
    budget: Budget,
    steps: int,
    share: float | None = None,
) -> Images:
    """One run from `start`: the last point, or the first success against a deterministic model."""
    eps, x = reach(images, budget), start.clone()
    left = torch.arange(len(images), device=images.device)
    for t in range(steps):
        _, gradient, fooled = objective(x[left], labels[left])
        if not objective.random and fooled.any():
            left, gradient = left[~fooled], gradient[~fooled]
        if not len(left):
            break
        step = eps * annealing(t / steps)
        if budget.norm == "L1":
            moved = spent(gradient, -x[left], 1 - x[left], min(step, eps), share)
        else:
            moved = step * unit(gradient, budget.norm, x[left], share)
        x[left] = project(x[left] + moved, images[left], eps, budget.norm)
    return x
