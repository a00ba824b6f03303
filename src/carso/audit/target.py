"""What is audited, seen through one window: how it answers, and what an attacker can make of it.

    answer      images -> classes, one verdict with fresh randomness; the only thing that counts
    scores      images -> scores, what an attacker without gradients sees
    candidates  images, K -> logits (B, K, classes), what an attacker with gradients differentiates

A target is a CARSO defence, any `nn.Module` or callable from images to scores, or either of these with an attribute
`surrogate` (images -> logits, differentiable). If the surrogate is rounded for speed, the target's attribute `exact` is
the same without rounding, for finite differences and DeepFool. If a module's own gradient is not finite, the attacks
follow the logits of a module inside it (`carso.audit.inside`). A target with the attributes `purify` (images -> images)
and `classifier` is also attacked as if its purifier were the identity.

Whatever is called is handed a copy of the images (`carso.evaluation.queries`); what an attacker sees is float32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from carso.attacks.eot import Candidates, Expectation, calls, mean_log_probability
from carso.audit.inside import Inside, broken, inside
from carso.audit.surface import Surface, checked, differentiable, has_gradient
from carso.data.labelled import names_of
from carso.defence import CARSO
from carso.errors import ModelError
from carso.evaluation.examples import drawn
from carso.evaluation.models import device_of, fingerprint, weights_of
from carso.evaluation.queries import checked_query, scores_of
from carso.evaluation.seeding import seeded
from carso.fast import batch_of, faster
from carso.nn import evaluating
from carso.nn.chance import pinned
from carso.types import Classifier, Images

SEEN, VOTES_SEEN = 4, 20
"""Candidates behind the scores that an attacker without gradients sees, and behind the shares of the vote."""

LOOKED_AT, REPEATED = 16, 32
"""Images on which a target is tried, spread over those it will see; calls by which its chance is held to a seed."""


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
        own: its scores with their own gradient, where that is not what is attacked but what comes before them is.
        random: whether its answers' scores vary between calls.
        random_surrogate: whether the candidates vary between calls.
        repeatable: whether the seeds of torch, numpy and Python decide its answers.
        rounding: relative error of what `exact` answers, by its dtype.
        probabilities: whether its raw scores are probabilities; then `scores` and `candidates` are their logarithms.
        classes: how many it knows.
        names: what it calls them, in order; None where it does not say.
        device: where images go.
        identity: a hash of architecture and weights. A function has none: its name is used, or a fresh random id if it
            cannot be seeded.
        shown: scores (b, classes) on the first images under a fixed seed, which tell one function from another; None if
            the target cannot be seeded.
        weights: a digest of the weights alone; None where they cannot be seen.
        votes: shares of a small vote, for the attack on votes.
        purify: the purifier by itself.
        classifier: the classifier behind the purifier.
        fresh: makes, anew in each call, the answers of a copy that was never asked anything; None where there is none.
        turns_away: whether an answer may be that the image is turned away (see `carso.audit.detecting`).
    """

    name: str
    answer: Callable[[Tensor], Tensor]
    scores: Classifier
    candidates: Candidates | None
    known: Callable[[int, int], Classifier] | None
    exact: Callable[[int, int], Classifier] | None
    random: bool
    random_surrogate: bool
    repeatable: bool
    probabilities: bool
    classes: int
    device: torch.device
    identity: str
    weights: str | None = None
    shown: Tensor | None = None
    rounding: float = 0.0
    own: Classifier | None = None
    names: tuple[str, ...] | None = None
    votes: Classifier | None = None
    purify: Callable[[Tensor], Tensor] | None = None
    classifier: Classifier | None = None
    fresh: Callable[[], Callable[[Tensor], Tensor]] | None = None
    turns_away: bool = False


@dataclass(frozen=True)
class Known:
    """A function of images of which it is known how it is best called.

    Args:
        function: images, and whatever else it takes, to logits.
        batch: how many images at a time a thread computes fastest (see `batch_of` of `carso.fast`).
        varies: whether its calls differ, if that is known, or it is to be attacked as if they did, because to fool it
            is not to fool the target (see `is_random` of `carso.attacks.objective`).
    """

    function: Callable[..., Tensor]
    batch: int | None
    varies: bool | None

    def __call__(self, *given: Any) -> Tensor:
        """What the function returns."""
        return self.function(*given)


def target_of(subject: Any, images: Images, name: str | None = None, seed: int = 0) -> Target:
    """The window on a subject, tried on a few images.

    Args:
        subject: a CARSO defence, a module or a callable.
        images: those that it will see, (B, C, H, W).
        name: what reports call it; by default its class or function.
        seed: of its own randomness while it is tried.

    Raises:
        ModelError: if it cannot run, or returns anything but scores (B, classes) without NaN.
    """
    if not callable(subject):
        raise ModelError(f"an audit needs a callable from images to scores, not {type(subject).__name__}")
    name = str(name or getattr(subject, "__qualname__", type(subject).__qualname__))
    few = _moved(images[torch.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).long()], subject, name)
    with evaluating(subject), seeded(seed, "first look"):
        return _carso(subject, few, name) if isinstance(subject, CARSO) else _callable(subject, few, name)


def _moved(images: Images, subject: Any, name: str) -> Images:
    """The images where the subject lives, from where its answers can come back."""
    device = device_of(subject)
    try:
        moved = images.to(device)
        moved.cpu()
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"{name} lives on {device}, between which and here images cannot move: {error}") from error
    return moved


def _carso(defence: CARSO, images: Images, name: str) -> Target:
    name = name if defence.fixed_by is None else f"{name}, {defence.extra_repr()}"
    classes = checked(defence, images, name).shape[1]
    quick = faster(defence, images)

    def candidates(images: Tensor, samples: int) -> Tensor:
        logits: Tensor = checked_query(quick.logits, images, name, latents=drawn(defence, samples))
        return logits

    def surrogate(images: Tensor) -> Tensor:
        return mean_log_probability(candidates(images, SEEN))

    def own(images: Tensor) -> Tensor:
        scores: Tensor = checked_query(defence.aggregated, images, name, samples=min(defence.samples, VOTES_SEEN))
        return scores

    def fixed_by(differentiable: Callable[..., Tensor], seed: int, samples: int) -> Classifier:
        latents = defence.latents(samples, torch.Generator().manual_seed(seed))

        def known(images: Tensor) -> Tensor:
            return mean_log_probability(checked_query(differentiable, images, name, latents=latents))

        return Known(known, quick.batch, varies=False)

    repeatable = _repeatable(surrogate, images)
    return Target(
        name=name,
        answer=partial(checked_query, defence.predict, name=name),
        scores=Known(surrogate, quick.batch, varies=True),
        candidates=Known(candidates, quick.batch, varies=True),
        known=partial(fixed_by, quick.logits),
        exact=partial(fixed_by, defence.logits),
        random=defence.fixed_by is None,
        random_surrogate=True,
        repeatable=repeatable,
        probabilities=False,
        classes=classes,
        device=images.device,
        identity=fingerprint(defence),
        weights=weights_of(defence),
        shown=_shown(fixed_by(defence.logits, 0, SEEN), images) if repeatable else None,
        own=None if defence.aggregation == "mode" else own,
        names=names_of(defence),
        votes=lambda images: checked_query(defence.poll, images, name, samples=VOTES_SEEN, stop="never").shares,
        purify=lambda images: checked_query(defence.recall, images, name, samples=1).squeeze(1),
        classifier=differentiable(defence.classifier, images, f"the classifier of {name}", classes),
    )


def _callable(subject: Any, images: Images, name: str) -> Target:
    untouched = _untouched(subject)
    scores = Surface.of(subject, images, name).tried(images)
    surrogate = _attacked(subject, images, scores).tried(images)
    follow, random, varies = has_gradient(surrogate, images), bool(scores.varies), bool(surrogate.varies)
    exact = _exact(subject, images, scores, surrogate) if follow else None
    purify, classifier = _parts(subject, images, name, scores.classes)
    repeatable = not random or _repeatable(scores, images)
    return Target(
        name=name,
        answer=partial(_answer, subject, name, scores.classes),
        scores=scores,
        candidates=Known(calls(surrogate), surrogate.batch, varies or hasattr(subject, "surrogate"))
        if follow
        else None,
        known=partial(_fixed, surrogate) if follow else None,
        exact=partial(_fixed, exact or surrogate) if follow else None,
        random=random,
        random_surrogate=varies,
        repeatable=repeatable,
        probabilities=surrogate.probabilities,
        classes=scores.classes,
        device=images.device,
        identity=fingerprint(subject) if isinstance(subject, nn.Module) or not repeatable else name,
        weights=weights_of(subject),
        shown=_shown(scores, images) if repeatable else None,
        rounding=(exact or surrogate).rounding,
        own=scores if isinstance(surrogate.model, Inside) else None,
        names=names_of(subject),
        purify=purify,
        classifier=classifier,
        fresh=None if untouched is None else lambda: partial(_answer, untouched(), name, scores.classes),
    )


def _untouched(subject: Any) -> Callable[[], Any] | None:
    """What makes copies of a subject as it is now; None where it cannot be copied, as a function cannot."""
    try:
        kept = copy.deepcopy(subject)
    except Exception:  # copying runs the subject's own code
        return None
    return None if kept is subject else partial(copy.deepcopy, kept)


def _attacked(subject: Any, images: Images, scores: Surface) -> Surface:
    """What attacks differentiate: the surrogate; else the scores, or what comes before them if a gradient is broken."""
    if hasattr(subject, "surrogate"):
        return Surface.of(subject.surrogate, images, f"{scores.name}.surrogate", scores.classes)
    if not has_gradient(scores, images):
        return scores
    if not broken(scores, images).any():
        return _cheaper(subject, images, scores)
    within = inside(subject, images, scores.classes)
    return scores if within is None else Surface.of(within, images, f"{scores.name}.{within.name}", scores.classes)


def _cheaper(subject: Any, images: Images, scores: Surface) -> Surface:
    """The scores in a cheaper form that attacks many images at a time, where there is one."""
    quick = faster(subject, images) if isinstance(subject, nn.Module) else subject
    cheaper = quick is not subject and batch_of(quick) is not None
    return Surface.of(quick, images, scores.name, scores.classes) if cheaper else scores


def _exact(subject: Any, images: Images, scores: Surface, surrogate: Surface) -> Surface | None:
    """The unrounded form of a surrogate, if there is one; of a cheaper form, the scores themselves."""
    if not hasattr(subject, "surrogate"):
        return scores if surrogate.batch else None
    if not hasattr(subject, "exact"):
        return None
    name = scores.name
    exact = Surface.of(subject.exact, images, f"{name}.exact", scores.classes)
    if not has_gradient(exact, images):
        raise ModelError(f"{name}.exact has no gradient, which {name}.surrogate has; mend or leave out the former")
    return exact


def _parts(
    subject: Any, images: Images, name: str, classes: int
) -> tuple[Callable[[Tensor], Tensor] | None, Classifier | None]:
    """A purifier and the classifier behind it, if there are both; no classifier where it has no gradient."""
    if not (hasattr(subject, "purify") and hasattr(subject, "classifier")):
        return None, None
    purify = partial(checked_query, subject.purify, name=f"{name}.purify")
    with torch.no_grad():
        purified = purify(images)
    given = tuple(purified.shape) if isinstance(purified, Tensor) else type(purified).__name__
    if given != tuple(images.shape):
        raise ModelError(f"{name}.purify must return images of the shape that it is given, not {given}")
    return purify, differentiable(subject.classifier, images, f"{name}.classifier", classes)


def _fixed(surrogate: Surface, seed: int, samples: int) -> Classifier:
    """The surrogate with its randomness known to the attacker."""
    model = Expectation(calls(surrogate), samples)

    def known(images: Tensor) -> Tensor:
        with pinned(seed):
            return model(images)

    return Known(known, surrogate.batch, varies=None)


@torch.no_grad()
def _repeatable(scores: Classifier, images: Images) -> bool:
    """Whether two rounds of calls from one seed answer alike."""

    def round_() -> Tensor:
        with pinned(0):
            return torch.stack([scores(images[:4]) for _ in range(REPEATED)])

    return torch.equal(round_().nan_to_num(), round_().nan_to_num())


@torch.no_grad()
def _shown(scores: Classifier, images: Images) -> Tensor:
    with pinned(0):
        return scores(images).float().cpu()


def _answer(subject: Classifier, name: str, classes: int, images: Tensor) -> Tensor:
    scores = scores_of(subject, images, name, classes)
    if scores.isnan().any():
        raise ModelError(f"{name} returned NaN; an audit of it would mean nothing")
    return scores.argmax(1)
