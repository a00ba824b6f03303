"""What is audited, seen through one window: how it answers, and what an attacker can make of it.

    answer      images -> classes, one verdict with fresh randomness; the only thing that counts
    scores      images -> scores, what an attacker without gradients sees
    candidates  images, K -> logits (B, K, classes), what an attacker with gradients differentiates

A target is a CARSO defence, any `nn.Module` or callable from images to scores, or either of these with an attribute
`surrogate` (images -> logits, differentiable); if that one is rounded for speed, an attribute `exact` is the same
unrounded, of which finite differences and DeepFool can be taken. One with the attributes `purify` (images -> images)
and `classifier` can also be attacked as if its purifier were the identity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from carso.attacks.eot import Candidates, Expectation, calls, fixed, mean_log_probability
from carso.attacks.objective import is_random
from carso.defence import CARSO
from carso.errors import ModelError
from carso.evaluation.models import device_of, fingerprint, weights_of
from carso.fast import faster
from carso.nn import evaluating
from carso.types import Classifier, Images, Labels

VOTES_SEEN = 20
"""Candidates behind the shares of the vote that an attacker without gradients sees."""


@dataclass(frozen=True)
class Target:
    """A defence as the audit sees it.

    Args:
        name: what reports call it.
        answer: one verdict (B,) per call.
        scores: differences matter: logits, log-probabilities or shares.
        candidates: differentiable logits (B, K, classes); None if there is no gradient at all.
        known: seed, K -> the surrogate on K candidates of fixed randomness, (B, classes), rounded as `candidates` are.
        exact: the same unrounded.
        random: whether its answers' scores vary between calls.
        random_surrogate: whether the candidates vary between calls.
        probabilities: whether its raw scores are probabilities; then `scores` and `candidates` are their logarithms.
        device: where images go.
        identity: of architecture and weights, as far as they can be seen.
        weights: a digest of the weights alone; None where they cannot be seen.
        votes: shares of a small vote, for the attack on votes.
        purify: the purifier by itself.
        classifier: the classifier behind the purifier.
    """

    name: str
    answer: Callable[[Tensor], Tensor]
    scores: Classifier
    candidates: Candidates | None
    known: Callable[[int, int], Classifier] | None
    exact: Callable[[int, int], Classifier] | None
    random: bool
    random_surrogate: bool
    probabilities: bool
    device: torch.device
    identity: str
    weights: str | None = None
    votes: Classifier | None = None
    purify: Callable[[Tensor], Tensor] | None = None
    classifier: Classifier | None = None


def target_of(subject: Any, images: Images, name: str | None = None) -> Target:
    """The window on a subject, tried on a few images.

    Args:
        subject: a CARSO defence, a module or a callable.
        images: a few of those that it will see, (B, C, H, W).
        name: what reports call it; by default its class or function.

    Raises:
        ModelError: if it cannot run, or returns anything but finite scores (B, classes).
    """
    if not callable(subject):
        raise ModelError(f"an audit needs a callable from images to scores, not {type(subject).__name__}")
    name = str(name or getattr(subject, "__qualname__", type(subject).__qualname__))
    device = device_of(subject)
    try:
        images = images[:16].to(device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"{name} lives on {device}, which images cannot be moved to here: {error}") from error
    with evaluating(subject):
        return _carso(subject, images, name) if isinstance(subject, CARSO) else _callable(subject, images, name)


def _carso(defence: CARSO, images: Images, name: str) -> Target:
    _checked(defence, images, name)
    quick = faster(defence, images)

    def candidates(images: Tensor, samples: int) -> Tensor:
        logits: Tensor = quick.logits(images, latents=defence.latents(samples))
        return logits

    def surrogate(images: Tensor) -> Tensor:
        return mean_log_probability(candidates(images, 4))

    def fixed_by(differentiable: Callable[..., Tensor], seed: int, samples: int) -> Classifier:
        latents = defence.latents(samples, torch.Generator().manual_seed(seed))
        return lambda images: mean_log_probability(differentiable(images, latents=latents))

    return Target(
        name=name,
        answer=defence.predict,
        scores=surrogate,
        candidates=candidates,
        known=partial(fixed_by, quick.logits),
        exact=partial(fixed_by, defence.logits),
        random=True,
        random_surrogate=True,
        probabilities=False,
        device=images.device,
        identity=fingerprint(defence),
        weights=weights_of(defence),
        votes=lambda images: defence.poll(images, VOTES_SEEN, "never").shares,
        purify=lambda images: defence.recall(images, 1).squeeze(1),
        classifier=defence.classifier,
    )


def _callable(subject: Any, images: Images, name: str) -> Target:
    raw = _checked(subject, images, name)
    smooth: Classifier = getattr(subject, "surrogate", subject)
    shown = raw if smooth is subject else _checked(smooth, images, f"{name}.surrogate")
    surrogate = exact = _logits(smooth, shown)
    if smooth is not subject and hasattr(subject, "exact"):
        exact = _logits(subject.exact, _checked(subject.exact, images, f"{name}.exact"))
    differentiable = _has_gradient(surrogate, images)
    return Target(
        name=name,
        answer=partial(_answer, subject, name),
        scores=_logits(subject, raw),
        candidates=calls(surrogate) if differentiable else None,
        known=partial(_fixed, surrogate) if differentiable else None,
        exact=partial(_fixed, exact) if differentiable else None,
        random=is_random(subject, images),
        random_surrogate=is_random(surrogate, images),
        probabilities=are_probabilities(shown),
        device=images.device,
        identity=fingerprint(subject) if isinstance(subject, nn.Module) else name,
        weights=weights_of(subject),
        purify=getattr(subject, "purify", None),
        classifier=getattr(subject, "classifier", None) if hasattr(subject, "purify") else None,
    )


def are_probabilities(scores: Tensor) -> bool:
    """Whether every row is a distribution over the classes."""
    return bool((scores >= 0).all()) and torch.allclose(scores.sum(1), scores.new_ones(len(scores)), atol=1e-4)


def _fixed(surrogate: Classifier, seed: int, samples: int) -> Classifier:
    return fixed(Expectation(calls(surrogate), samples), seed)


def _answer(subject: Classifier, name: str, images: Tensor) -> Tensor:
    scores = subject(images)
    check_scores(scores, len(images), name)
    return scores.argmax(1)


def _logits(model: Classifier, shown: Tensor) -> Classifier:
    """The model, or its logarithm if what it has shown are probabilities."""
    return partial(_logarithm, model) if are_probabilities(shown) else model


def _logarithm(model: Classifier, images: Tensor) -> Tensor:
    probabilities = model(images)
    return probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()


def _has_gradient(model: Classifier, images: Images) -> bool:
    with torch.enable_grad():
        return bool(model(images.clone().requires_grad_()).requires_grad)


def _checked(subject: Classifier, images: Images, name: str) -> Tensor:
    """The scores of a first call.

    Raises:
        ModelError: as in `target_of`.
    """
    try:
        with torch.no_grad():
            scores = subject(images)
            check_scores(scores, len(images), name)
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        shape = tuple(images.shape)
        raise ModelError(f"{name} cannot run on images {shape} on {images.device}: {error}") from error
    return scores


def check_scores(scores: Any, batch: int, name: str) -> None:
    """Raise a ModelError unless `scores` is a finite floating-point tensor (batch, classes >= 2)."""
    if not isinstance(scores, Tensor):
        raise ModelError(f"{name} must return a tensor of scores ({batch}, classes), not {type(scores).__name__}")
    if scores.ndim != 2 or len(scores) != batch or scores.shape[1] < 2:
        raise ModelError(f"{name} must return scores of shape ({batch}, classes >= 2), not {tuple(scores.shape)}")
    if not scores.is_floating_point():
        raise ModelError(f"{name} must return floating-point scores, not {scores.dtype}")
    if not scores.isfinite().all():
        raise ModelError(f"{name} returned NaN or infinity; an audit of it would mean nothing")


def classes_of(target: Target, images: Images) -> Labels:
    """One verdict (B,) on the CPU, with fresh randomness."""
    with torch.no_grad():
        return target.answer(images.to(target.device)).cpu()
