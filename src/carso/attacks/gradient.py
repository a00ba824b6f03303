"""Attacks that climb the gradient g = grad_x L(f(x), y) of a loss.

    FGSM    x' = x + eps s(g)
    PGD     x_0 = x + u,    x_{t+1} = P(x_t + alpha s(g_t)),    u uniform in the ball

    s       the step of unit length that raises the loss most: sign(g) in Linf, g / ||g||_2 in L2
    P       projection into the ball B_p(x, eps) and into [0, 1]

A targeted attack descends the loss of the target class instead.

Source: I. Goodfellow, J. Shlens and C. Szegedy, "Explaining and harnessing adversarial examples", ICLR 2015; A. Madry
et al., "Towards deep learning models resistant to adversarial attacks", ICLR 2018.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from carso.attacks.budget import bounded, confine, reach
from carso.attacks.losses import Loss, loss_of
from carso.types import Budget, Classifier, Images, Labels, Norm


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

    Returns:
        (B, C, H, W), within the budget and [0, 1].
    """
    gradient = input_gradient(model, images, labels, loss_of(loss), targeted)
    return images + reach(images, budget) * unit(gradient, budget.norm)


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
) -> Images:
    """Projected gradient ascent from a random start.

    Restarts go to the images that are not misclassified yet; of two failed ones the higher loss is kept. The random
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

    Returns:
        (B, C, H, W), within the budget and [0, 1].

    Raises:
        ValueError: if steps or restarts is not positive, or alpha is not a positive number.
    """
    climbed, eps = loss_of(loss), reach(images, budget)
    alpha = 2.5 * eps / max(steps, 1) if alpha is None else alpha
    if steps < 1 or restarts < 1 or not alpha > 0:
        raise ValueError(f"steps, restarts and alpha must be positive, not {steps}, {restarts} and {alpha}")

    def run(images: Tensor, labels: Tensor) -> Tensor:
        start = uniform(images, budget, generator) if random_start else images
        ascended = ascend(
            model, images, labels, start, eps, alpha, steps=steps, norm=budget.norm, loss=climbed, targeted=targeted
        )
        return confine(ascended, images, budget)

    best = run(images, labels)
    for _ in range(restarts - 1):
        fooled, reached = outcome(model, best, labels, climbed, targeted)
        left = (~fooled).nonzero().squeeze(1)
        if not len(left):
            break
        again = run(images[left], labels[left])
        now_fooled, now_reached = outcome(model, again, labels[left], climbed, targeted)
        better = now_fooled | (now_reached > reached[left])
        best[left[better]] = again[better]
    return best


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
    """
    x = start
    for _ in range(steps):
        gradient = input_gradient(model, x, labels, loss, targeted)
        x = project(x + alpha * unit(gradient, norm), images, eps, norm)
    return x


def input_gradient(model: Classifier, images: Images, labels: Labels, loss: Loss, targeted: bool = False) -> Images:
    """Gradient of each image's loss with respect to that image; of minus the loss if `targeted`."""
    x = images.detach().requires_grad_()
    total = loss(model(x), labels).sum()
    (gradient,) = torch.autograd.grad(-total if targeted else total, x)
    return gradient


def unit(gradient: Images, norm: Norm) -> Images:
    """The step of length one that follows the gradient furthest; zero where the gradient is."""
    if norm == "Linf":
        return gradient.sign()
    largest = gradient.flatten(1).abs().amax(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny).view(-1, 1, 1, 1)
    scaled = gradient / largest
    return scaled / length(scaled).clamp_min(1)


def project(x: Images, images: Images, eps: float | Tensor, norm: Norm) -> Images:
    """Project into the box and the ball, to rounding."""
    if norm == "Linf":
        return torch.clamp(x, (images - eps).clamp_min(0), (images + eps).clamp_max(1))
    delta = x.clamp(0, 1) - images
    return images + delta * (eps / length(delta).clamp_min(torch.finfo(delta.dtype).tiny)).clamp_max(1)


def length(delta: Images) -> Tensor:
    """L2 norm per image, (B, 1, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(delta.flatten(1), dim=1)
    return norms.view(-1, 1, 1, 1)


def uniform(images: Images, budget: Budget, generator: Generator | None = None) -> Images:
    """A point drawn uniformly from the ball around each image, then clamped to [0, 1]."""
    device = generator.device if generator is not None else images.device
    if budget.norm == "Linf":
        offset = torch.rand(images.shape, generator=generator, device=device).mul_(2).sub_(1)
    else:
        direction = unit(torch.randn(images.shape, generator=generator, device=device), "L2")
        radius = torch.rand(len(images), 1, 1, 1, generator=generator, device=device)
        offset = direction * radius ** (1 / images[0].numel())
    return (images + reach(images, budget) * offset.to(images.device)).clamp(0, 1)


def outcome(model: Classifier, images: Images, labels: Labels, loss: Loss, targeted: bool) -> tuple[Tensor, Tensor]:
    """Per image, whether the attack has succeeded, and the loss that it climbs."""
    with torch.no_grad():
        logits = model(images)
        climbed = loss(logits, labels)
    hit = logits.argmax(dim=1) == labels
    return (hit, -climbed) if targeted else (~hit, climbed)
