"""Attacks that climb the gradient g = grad_x L(f(x), y) of a loss.

    FGSM    x' = x + eps s(g)
    PGD     delta_0 uniform in the ball,    delta_{t+1} = P(delta_t + alpha s(g_t)),    x' = x + delta_T

    s       the step of unit length that raises the loss most: sign(g) in Linf, g / ||g||_2 in L2; sparse in L1
    P       projection of x + delta into the ball B_p(x, eps) and into [0, 1]

A targeted attack descends the loss of the target class instead.

Source: I. Goodfellow, J. Shlens and C. Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015; A. Madry
et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Generator, Tensor

from carso.attacks.ball import Ball, Pace, steady, uniform
from carso.attacks.budget import bounded, confine, reach
from carso.attacks.losses import Loss, loss_of, slope_of
from carso.attacks.objective import Objective, improves, is_random
from carso.fast import faster, gradient_of, portions, pullback
from carso.nn.querying import query
from carso.types import Budget, Classifier, Images, Labels, Norm, at_least_one


@bounded
def fgsm(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    targeted: bool = False,
    loss: str | Loss = "cross_entropy",
    generator: Generator | None = None,
    fast: bool | None = None,
) -> Images:
    """One step of length eps along the gradient.

    Args:
        model: images to logits.
        images: (B, C, H, W) in [0, 1].
        labels: true classes, or the classes to reach if `targeted`.
        budget: norm and radius.
        targeted: descend the loss of `labels` instead of climbing it.
        loss: "cross_entropy", "margin", "dlr" or a callable (logits, labels) -> (B,).
        generator: unused; FGSM is deterministic.
        fast: whether the model is taken in a cheaper form (`carso.fast`): None where there is one, True or else fail,
            False never.

    Returns:
        (B, C, H, W), within the budget and [0, 1].
    """
    climbed, eps = loss_of(loss, targeted), reach(images, budget)
    return ascend(
        model, images, labels, images, eps, eps, steps=1, norm=budget.norm, loss=climbed, targeted=targeted, fast=fast
    )


@bounded
def pgd(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    steps: int = 40,
    alpha: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    targeted: bool = False,
    loss: str | Loss = "cross_entropy",
    generator: Generator | None = None,
    fast: bool | None = None,
) -> Images:
    """Projected gradient ascent from a random start.

    Restarts go to the images that are not misclassified yet; of two failed ones the higher loss is kept. Against a
    random model they go to all and are judged by ten calls; of two successes, too, the higher loss is kept. The random
    starts of a batch are drawn in one call, so the answer for an image depends on the state of the generator and on the
    image's place in the batch.

    Args:
        model: images to logits.
        images: (B, C, H, W) in [0, 1].
        labels: true classes, or the classes to reach if `targeted`.
        budget: norm and radius.
        steps: number of gradient steps.
        alpha: length of a step, in units of the [0, 1] pixel; by default 2.5 eps / steps. The thesis takes 0.01.
        random_start: start uniformly in the ball rather than at the image.
        restarts: number of independent runs.
        targeted: descend the loss of `labels` instead of climbing it.
        loss: "cross_entropy", "margin", "dlr" or a callable (logits, labels) -> (B,).
        generator: source of the random starts.
        fast: whether the model is taken in a cheaper form (`carso.fast`): None where there is one, True or else fail,
            False never.

    Returns:
        (B, C, H, W), within the budget and [0, 1].

    Raises:
        ValueError: if steps or restarts is not positive, or alpha is not a positive number.
    """
    at_least_one(steps=steps, restarts=restarts)
    eps = reach(images, budget)
    alpha = 2.5 * eps / steps if alpha is None else alpha
    if not 0 < alpha < math.inf:
        raise ValueError(f"alpha must be positive and finite, not {alpha}")
    climbed = loss_of(loss, targeted)
    objective = Objective(model, climbed, targeted, random=restarts > 1 and is_random(model, images))
    climb = partial(ascend, steps=steps, norm=budget.norm, loss=climbed, targeted=targeted, fast=fast)

    def run(images: Tensor, labels: Tensor) -> Tensor:
        start = uniform(images, budget, generator) if random_start else images
        found = climb(model, images, labels, start, eps, alpha)
        return confine(found, images, budget) if restarts > 1 else found

    best = run(images, labels)
    for _ in range(restarts - 1):
        reached, fooled = objective.judge(best, labels)
        left = (~objective.rests(fooled)).nonzero().squeeze(1)
        if not len(left):
            break
        again = run(images[left], labels[left])
        better = improves(*objective.judge(again, labels[left]), reached[left], fooled[left])
        best[left[better]] = again[better]
    return best


@torch.no_grad()
def ascend(
    model: Classifier,
    images: Images,
    labels: Labels,
    start: Images,
    eps: float | Tensor,
    alpha: float | Tensor,
    *,
    steps: int,
    norm: Norm = "Linf",
    loss: Loss,
    targeted: bool = False,
    fast: bool | None = None,
    pace: Pace = steady,
) -> Images:
    """The inner loop of PGD: `steps` projected steps from `start`, without a wait for the device.

    The model runs in whatever mode it is in, and the ball is held to rounding only: callers confine the result.

    Args:
        model: images to logits.
        images: centres of the balls, (B, C, H, W).
        labels: (B,).
        start: (B, C, H, W).
        eps: radius, one for all or one per image (B, 1, 1, 1); 0 leaves the image as it is.
        alpha: length of a step, likewise.
        steps: number of steps.
        norm: of the ball and of the step.
        loss: (logits, labels) -> (B,), climbed, or descended if `targeted`.
        targeted: see `loss`.
        fast: whether the model is taken in a cheaper form (`carso.fast`): None where there is one, True or else fail,
            False never.
        pace: share of the run -> what the step is multiplied by.
    """
    quick, slope = faster(model, images, fast), slope_of(loss, targeted)
    whole = (images, labels, start, _per_image(eps, images), _per_image(alpha, images))
    reached = []
    for x_0, y, begin, radius, step in zip(*(v.tensor_split(portions(quick, images)) for v in whole), strict=True):
        at, ball, delta = pullback(quick, x_0), Ball(x_0, radius, norm), begin - x_0
        for t in range(steps):
            gradient = at.gradient(slope(at.logits(delta), y))
            ball.step_(delta, gradient, step * pace(t / steps))
        reached.append((x_0 + delta).clamp_(0, 1))
    return torch.cat(reached)


def _per_image(value: float | Tensor, images: Images) -> Tensor:
    return torch.as_tensor(value, dtype=images.dtype, device=images.device).expand(len(images), 1, 1, 1)


def input_gradient(model: Classifier, images: Images, labels: Labels, loss: Loss, targeted: bool = False) -> Images:
    """Gradient of each image's loss with respect to that image; of minus the loss if `targeted`.

    Raises:
        NoGradientError: if the logits do not depend differentiably on the images.
    """
    x = images.detach().clone().requires_grad_()
    total = loss(query(model, x), labels).sum()
    return gradient_of(-total if targeted else total, x)
