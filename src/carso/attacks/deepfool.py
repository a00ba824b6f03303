"""DeepFool: the nearest decision boundary, found by linearising the model again and again.

    f_k = z_k(x) - z_y(x),    w_k = grad_x f_k,    k* = argmin_k |f_k| / ||w_k||_q
    x  <- x + (1 + eta) |f_k*| / ||w_k*||_q s(w_k*)

    x_0     clean image, where x starts
    z, y    logits and label
    q       the dual norm: 1 for Linf, 2 for L2
    s       the unit step: sign(w) in Linf, w / ||w||_2 in L2
    eta     overshoot, which carries x across the boundary

Here w counts only the pixels that the [0, 1] box lets move: a pixel at 0 cannot fall. Otherwise, on images with a black
background, every step falls short of the boundary and x creeps up to it without crossing. A step is at least 1e-5 long,
so that rounding cannot stall it near the boundary.

An image is left alone as soon as its class differs from y, so one misclassified from the start stays untouched.
A perturbation beyond the budget is clamped pixel by pixel in Linf, as in the thesis, and scaled down in L2; the
budget includes the overshoot.

Source: S. Moosavi-Dezfooli, A. Fawzi and P. Frossard, "DeepFool: a simple and accurate method to fool deep neural
networks", CVPR 2016.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from carso.attacks.budget import bounded, confine
from carso.attacks.contract import checked
from carso.attacks.gradient import unit
from carso.types import Budget, Classifier, Images, Labels, Norm


@bounded
def deepfool(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
    generator: Generator | None = None,
) -> Images:
    """The minimal perturbation that DeepFool finds, bounded by a budget.

    Args:
        model: images to logits.
        images: (B, C, H, W) in [0, 1].
        labels: true classes.
        budget: norm and radius.
        steps: linearisations at most.
        overshoot: share of the perturbation added to cross the boundary.
        candidates: classes considered, the label among them: the most probable ones of the clean image.
        generator: unused; DeepFool is deterministic.

    Returns:
        (B, C, H, W), within the budget and [0, 1].

    Raises:
        ValueError: if steps < 1, candidates < 2 or overshoot < 0.
    """
    return confine(_nearest(model, images, labels, budget.norm, steps, overshoot, candidates), images, budget)


@checked
def minimal_perturbation(
    model: Classifier,
    images: Images,
    labels: Labels,
    norm: Norm,
    *,
    steps: int = 50,
    overshoot: float = 0.02,
    candidates: int = 10,
) -> Images:
    """DeepFool's perturbation, overshoot included, bounded by the [0, 1] box alone: one run serves every eps.

    Returns:
        (B, C, H, W), such that `perturb(images, perturbation, budget)` is what `deepfool` returns, to rounding.
    """
    return _nearest(model, images, labels, norm, steps, overshoot, candidates) - images


def perturb(images: Images, perturbation: Images, budget: Budget) -> Images:
    """The images moved by a perturbation, as far as the budget allows."""
    return confine(images + perturbation, images, budget)


def _nearest(
    model: Classifier, images: Images, labels: Labels, norm: Norm, steps: int, overshoot: float, candidates: int
) -> Images:
    """Adversarial images in [0, 1], unbounded."""
    if steps < 1 or candidates < 2 or overshoot < 0:
        raise ValueError(
            f"DeepFool needs steps >= 1, candidates >= 2 and overshoot >= 0, not {steps}, {candidates} and {overshoot}"
        )
    x, left = images.clone(), torch.arange(len(images), device=images.device)
    rivals = _rivals(model, images, labels, candidates)
    for _ in range(steps):
        with torch.no_grad():
            left = left[model(x[left]).argmax(dim=1) == labels[left]]
        if not len(left):
            break
        f, w = _differences(model, x[left], labels[left], rivals[left])
        x[left] = (x[left] + (1 + overshoot) * _step(f, _movable(w, x[left]), norm)).clamp(0, 1)
    return x


def _rivals(model: Classifier, images: Images, labels: Labels, candidates: int) -> Tensor:
    """The other classes to consider, by falling logit, (B, candidates - 1)."""
    with torch.no_grad():
        others = model(images).scatter(1, labels[:, None], -math.inf)
    return others.topk(min(candidates, others.shape[1]) - 1, dim=1).indices


def _differences(model: Classifier, images: Images, labels: Labels, rivals: Tensor) -> tuple[Tensor, Tensor]:
    """f (B, rivals) and w (rivals, B, C, H, W), rival's logit less label's."""
    x = images.detach().requires_grad_()
    logits = model(x)
    f = logits.gather(1, rivals) - logits.gather(1, labels[:, None])
    w = [torch.autograd.grad(column, x, retain_graph=True)[0] for column in f.sum(dim=0)]
    return f.detach(), torch.stack(w)


def _movable(w: Tensor, x: Images) -> Tensor:
    """The directions w without the pixels that would leave the box."""
    return torch.where(((x <= 0) & (w < 0)) | ((x >= 1) & (w > 0)), 0, w)


def _step(f: Tensor, w: Tensor, norm: Norm) -> Images:
    """The shortest step to a linearised boundary, at most across the unit box."""
    dual: Tensor = torch.linalg.vector_norm(w.flatten(2), ord=1 if norm == "Linf" else 2, dim=2)
    distance, nearest = (f.T.abs() / dual.clamp_min(torch.finfo(w.dtype).tiny)).min(dim=0)
    direction = unit(w[nearest, torch.arange(w.shape[1], device=w.device)], norm)
    across = 1 if norm == "Linf" else math.sqrt(w[0, 0].numel())
    return distance.clamp(1e-5, across).view(-1, 1, 1, 1) * direction
