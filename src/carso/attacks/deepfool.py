"""DeepFool: the nearest decision boundary, found by linearising the model again and again.

    f_k = z_k(x) - z_y(x),    w_k = grad_x f_k,    k* = argmin_k |f_k| / ||w_k||_q
    x  <- x + (1 + eta) |f_k*| / ||w_k*||_q s(w_k*)

    x_0     clean image, where x starts
    z, y    logits and label
    q       the dual norm: 1 for Linf, 2 for L2, and w's mean over the components of s for L1
    s       the unit step: sign(w) in Linf, w / ||w||_2 in L2, and as in `carso.attacks.ball` in L1
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
from collections.abc import Iterable, Iterator

import torch
from torch import Generator, Tensor

from carso.attacks.ball import unit
from carso.attacks.budget import across, bounded, confine, length
from carso.attacks.contract import checked
from carso.fast import faster, pullback
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
    fast: bool | None = None,
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
        fast: take gradients on the model in a cheaper form, in float32; None where there is one, False never.

    Returns:
        (B, C, H, W), within the budget and [0, 1].

    Raises:
        ValueError: if steps < 1, candidates < 2 or overshoot < 0.
    """
    return confine(_nearest(model, images, labels, budget.norm, steps, overshoot, candidates, fast), images, budget)


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
    fast: bool | None = None,
) -> Images:
    """DeepFool's perturbation, overshoot included, bounded by the [0, 1] box alone: one run serves every eps.

    Returns:
        (B, C, H, W), such that `perturb(images, perturbation, budget)` is what `deepfool` returns, to rounding.
    """
    return _nearest(model, images, labels, norm, steps, overshoot, candidates, fast) - images


def perturb(images: Images, perturbation: Images, budget: Budget) -> Images:
    """The images moved by a perturbation, as far as the budget allows."""
    return confine(images + perturbation, images, budget)


def _nearest(
    model: Classifier,
    images: Images,
    labels: Labels,
    norm: Norm,
    steps: int,
    overshoot: float,
    candidates: int,
    fast: bool | None,
) -> Images:
    """Adversarial images in [0, 1], unbounded."""
    if steps < 1 or candidates < 2 or overshoot < 0:
        raise ValueError(
            f"DeepFool needs steps >= 1, candidates >= 2 and overshoot >= 0, not {steps}, {candidates} and {overshoot}"
        )
    x, left = images.clone(), torch.arange(len(images), device=images.device)
    quick, rivals = faster(model, images, fast), _rivals(model, images, labels, candidates)
    for _ in range(steps):
        with torch.no_grad():
            left = left[model(x[left]).argmax(dim=1) == labels[left]]
        if not len(left):
            break
        step = _step(_differences(quick, x[left], labels[left], rivals[left]), x[left], norm)
        x[left] = (x[left] + (1 + overshoot) * step).clamp(0, 1)
    return x


def _rivals(model: Classifier, images: Images, labels: Labels, candidates: int) -> Tensor:
    """The other classes to consider, by falling logit, (B, candidates - 1)."""
    with torch.no_grad():
        others = model(images).scatter(1, labels[:, None], -math.inf)
    return others.topk(min(candidates, others.shape[1]) - 1, dim=1).indices


def _differences(model: Classifier, images: Images, labels: Labels, rivals: Tensor) -> Iterator[tuple[Tensor, Images]]:
    """For each rival, f (B,) and its gradient w (B, C, H, W); the next one may overwrite w."""
    at, own = pullback(model, images, torch.float32, keep=True), labels[:, None]
    logits = at.logits(torch.zeros_like(images))
    for rival in rivals.split(1, dim=1):
        slope = torch.zeros_like(logits).scatter_(1, rival, 1.0).scatter_(1, own, -1.0)
        yield (logits.gather(1, rival) - logits.gather(1, own)).squeeze(1), at.gradient(slope)


def _step(differences: Iterable[tuple[Tensor, Images]], x: Images, norm: Norm) -> Images:
    """The shortest step to a linearised boundary, at most across the box; pixels at its walls only move inwards."""
    lowest = torch.zeros_like(x).masked_fill_(x > 0, -math.inf)
    highest = torch.zeros_like(x).masked_fill_(x < 1, math.inf)
    nearest, direction = torch.full_like(x[:, :1, :1, :1], math.inf), torch.zeros_like(x)
    for f, w in differences:
        movable = torch.clamp(w, lowest, highest)
        distance = f.abs().to(x.dtype).view(-1, 1, 1, 1) / _dual(movable, norm).clamp_min(torch.finfo(x.dtype).tiny)
        direction = torch.where(distance < nearest, movable, direction)
        nearest = torch.where(distance < nearest, distance, nearest)
    return nearest.clamp(1e-5, across(x[0].numel(), norm)) * unit(direction, norm)


def _dual(w: Images, norm: Norm) -> Tensor:
    """How far w rises along its unit step, per image (B, 1, 1, 1): its dual norm, or nearly in L1."""
    if norm == "L1":
        return (w * unit(w, norm)).sum(dim=(1, 2, 3), keepdim=True)
    return w.abs().sum(dim=(1, 2, 3), keepdim=True) if norm == "Linf" else length(w)
