"""Which form of a model is taken, and the proof that it answers as the model does.

A form is built from what a module's layers are known to do. Whether the module does just that is tried: its own logits
and the form's, both in float32, are compared on a few images. If they differ by more than rounding, the module itself
is used. A patched function or an unusual layer thus costs speed and changes no answer.

What is guaranteed: a form whose logits are off by more than rounding on the first images of the batch (or on the first
candidates of a vote) is never used. A module with hooks or a replaced `forward` is not tried at all. A network with
convolutions is asked for its logits and its gradients, on two batches of different sizes: so what remembers an earlier
call or draws from a generator of its own has no form, nor has a graph that lost a backward pass of its own. A class of
layers that was patched to answer otherwise only on other images would not be noticed. On a GPU the module itself runs,
under autocast, if its gradients on the first images point where they did.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, TypeVar, overload

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.autograd.function import BackwardCFunction

from carso.errors import ModelError, of_memory
from carso.fast.backpropagation import Backpropagation
from carso.fast.convolved import convolve_vote
from carso.fast.corrected import correct_defence, correct_vote
from carso.fast.folding import Folded, fold
from carso.fast.network import Network, is_plain, network
from carso.fast.parts import Defence, Purifier
from carso.fast.products import Reduced
from carso.fast.pullback import ByAutograd
from carso.fast.surrogate import FastDefence, fold_defence
from carso.fast.votes import FoldedVote, fold_vote
from carso.fast.whole import convolve_defence
from carso.nn.modes import evaluating
from carso.nn.querying import query, unqueried
from carso.types import Classifier, Codes, Counts, Images, Latents

T = TypeVar("T")
Voting: TypeAlias = Callable[[Latents, Codes], Counts]
Recalling: TypeAlias = Callable[[Tensor, Tensor], Tensor]
"""Images (B, C, H, W) and latents (K, latent) to the logits (B, K, classes) of candidates."""

FORMS = fold_vote, convolve_vote, correct_vote
"""Of a vote, each of another kind of purifier; the first that there is is taken."""

TRIED = 2
"""Images, or candidates, on which a form is compared with the model."""

PARALLEL = 0.8
"""Least cosine between a rounded gradient and the exact one; sign steps that follow either are as strong."""

TOLERANCE = 1e-3
"""Largest difference of two logits that counts as rounding, in units of their own size and of the typical one."""

DRIFT = 0.02
"""Largest difference of two gradients in float32 that counts as rounding, in units of the length of one."""


@overload
def faster(model: Defence, images: Images | None = None, wanted: bool | None = None) -> FastDefence: ...


@overload
def faster(model: Classifier, images: Images | None = None, wanted: bool | None = None) -> Classifier: ...


@overload
def faster(model: object, images: Images | None = None, wanted: bool | None = None) -> Any: ...


def faster(model: Any, images: Images | None = None, wanted: bool | None = None) -> Any:
    """The model in a cheaper form with the same answers, or the model itself where there is none.

    A chain of layers of known kinds folds (`carso.fast.folding`); a network with convolutions is frozen, rounded and
    laid out for the processor (`carso.fast.network`), on a GPU given bfloat16 products alone. A defence always comes
    back with `logits(images, latents=z)` and `surrogate(images, samples)`, for whoever differentiates it.

    Args:
        model: images to logits, or a defence: something with `classifier`, `purifier`, `representation` and `logits`.
        images: (B, C, H, W), some of which the answers are compared on; None where the caller has compared them
            before, as in training, which comes here after every step.
        wanted: False for the model itself, True to insist, None to take what there is on the CPU, or on a GPU where no
            graph is recorded, in which nothing can be compared.

    Raises:
        ModelError: if `wanted` is True and the model has no cheaper form.
    """
    itself = unqueried(model)
    if isinstance(itself, Defence):
        return _fast_defence(itself, images, wanted)
    if wanted is False:
        return model
    if wanted is None and images is not None and (kind := _kind(images)) != "cpu":
        return (_reduced(itself, images) if kind == "cuda" else None) or model
    form = attempted(lambda: _form(itself, model, images))
    if form is not None:
        return form
    if wanted:
        raise ModelError(
            "fast=True needs a chain of Standardise, Flatten, Linear, BatchNorm1d, Dropout and element-wise layers, or "
            "a network with convolutions, in eval mode and without hooks, which computes what its layers say; leave "
            "fast=None for any other model"
        )
    return model


def _kind(images: Images) -> str:
    return images.device.type


def _reduced(itself: Any, images: Images) -> Reduced | None:
    """A network with convolutions, its products in bfloat16, if its gradients point where they did."""
    if not is_plain(itself) or torch.cuda.is_current_stream_capturing():
        return None
    form = Reduced(itself)
    return form if attempted(lambda: _parallel(itself, form, images[:TRIED])) else None


def attempted(make: Callable[[], T | None]) -> T | None:
    """A form, or None: a module that does not let itself be copied, traced or rounded is taken as it is."""
    try:
        return make()
    except Exception as error:
        if of_memory(error):
            raise
        return None


def _form(itself: Any, model: Classifier, images: Images | None) -> Folded | Network | None:
    folded = fold(itself)
    if folded is not None and (images is None or same(folded, model, images[:TRIED])):
        return folded
    if images is None:
        return None
    form = network(itself, images)
    return form if form is not None and _follows(form, model, images[:TRIED]) else None


def _follows(form: Network, model: Classifier, images: Images) -> bool:
    """Whether a network's form is the network in float32, and its gradients, rounded or not, point where its own do.

    Raises:
        NoGradientError: if the network has none.
    """
    if not all(same(form.exact, model, some) and _equal(form.exact, model, some) for some in trials(images)):
        return False
    return _parallel(form.exact, form, images[:TRIED])


def trials(images: Tensor) -> tuple[Tensor, Tensor]:
    """The first images, and others in another number, of which no constant of a form is right as well."""
    some = images[:TRIED]
    return some, torch.cat([1 - some, some[:1]])


def _equal(exact: Classifier, model: Classifier, images: Images) -> bool:
    """Whether both give these images the same logits and gradients, to rounding, also where the model is asked again.

    The form must also have each autograd function of Python's that the model has: a trace follows the forward pass
    alone.

    Raises:
        NoGradientError: if the model has none.
    """
    ours, theirs = ByAutograd(exact, images), ByAutograd(model, images)
    slopes, expected = slope_at(ours).flatten(1), slope_at(theirs).flatten(1)
    if not alike(ours.z.detach(), theirs.z.detach()) or own_functions(theirs.z) - own_functions(ours.z):
        return False
    return bool(((slopes - expected).norm(dim=1) <= DRIFT * expected.norm(dim=1)).all())


def own_functions(values: Tensor) -> Counter[str]:
    """How many autograd functions of Python's led to these values, by name."""
    found, waiting = set(), [values.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in found:
            found.add(node)
            waiting += [before for before, _ in node.next_functions]
    return Counter(node.name() for node in found if isinstance(node, BackwardCFunction))


def _parallel(exact: Classifier, low: Classifier, images: Images) -> bool:
    """Whether the rounded gradients point where the exact ones do, of images that have one."""
    theirs, ours = (slope_at(ByAutograd(each, images)).flatten(1) for each in (exact, low))
    return bool((F.cosine_similarity(theirs, ours) >= PARALLEL)[theirs.abs().amax(1) > 0].all())


def slope_at(at: ByAutograd) -> Images:
    """The gradient of each image's largest logit less the mean of all."""
    logits = at.logits(torch.zeros_like(at.images))
    best = F.one_hot(logits.argmax(1), logits.shape[1])
    return at.gradient(best.to(logits) - 1 / logits.shape[1])


def _fast_defence(defence: Defence, images: Images | None, wanted: bool | None) -> FastDefence:
    folded = None if wanted is False else attempted(partial(_folded_defence, defence, images))
    if folded or wanted is False or images is None:
        return FastDefence(defence, folded)
    whole = attempted(partial(_convolved_defence, defence, images))
    return FastDefence(defence, folded) if whole is None else FastDefence(defence, *whole)


def _convolved_defence(defence: Defence, images: Images) -> tuple[Recalling, int] | None:
    """A defence with convolutions in its cheaper form, and how many images at a time are best."""
    if next(defence.purifier.parameters()).is_cuda or images.is_cuda:
        return None
    some, latents = images[:TRIED].float(), _some_latents(defence)
    with evaluating(defence.classifier), evaluating(defence.purifier):
        parts = (defence.classifier, defence.purifier, defence.representation.layers, some)
        found = convolve_defence(*parts) or correct_defence(*parts)
    if found is None:
        return None
    exact, low, batch = found

    def mean(of: Recalling) -> Classifier:
        return lambda x: of(x, latents).mean(1)

    def itself(x: Tensor, latents: Tensor) -> Tensor:
        return defence.logits(x, latents=latents)

    if not all(_recalls(exact, defence, x, latents) and _equal(mean(exact), mean(itself), x) for x in trials(some)):
        return None
    return (low, batch) if _parallel(mean(exact), mean(low), some) else None


def _folded_defence(defence: Defence, images: Images | None) -> Recalling | None:
    """A defence of layers that fold, as their chain; in training, of which there are no images, taken on trust."""
    if next(defence.purifier.parameters()).is_cuda:
        return None
    parts = (defence.classifier, defence.purifier, defence.representation.layers)
    low = fold_defence(*parts)
    if low is None or images is None:
        return low
    exact = fold_defence(*parts, torch.float32)
    assert exact is not None
    return low if _recalls(exact, defence, images[:TRIED].clone(), _some_latents(defence)) else None


def _some_latents(defence: Defence) -> Latents:
    """Latents (K, latent) on which a form is compared with the defence."""
    return defence.latents(TRIED, Generator("cpu").manual_seed(0))


@torch.no_grad()
def _recalls(exact: Recalling, defence: Defence, images: Images, latents: Latents) -> bool:
    """Whether a form in float32 gives the defence's own logits, to rounding."""
    return alike(exact(images, latents), defence.logits(images, latents=latents))


def voting(classifier: Classifier, purifier: Purifier, latents: Latents, codes: Codes) -> Voting | None:
    """Votes (B, classes) of latents (K, latent) with codes (B, code), by cheaper forms; None where there are none.

    Args:
        classifier: N, in eval mode.
        purifier: likewise.
        latents: z (K, latent) of the first round, on which the form is tuned and compared.
        codes: c (B, code), likewise.
    """
    with torch.no_grad(), evaluating(classifier):
        folded = attempted(lambda: next(filter(None, (form(classifier, purifier) for form in FORMS)), None))
        if folded is None or not attempted(partial(_elects, folded, classifier, purifier, latents, codes)):
            return None
    folded.prepare(latents, codes)
    return folded.votes


def _elects(form: FoldedVote, classifier: Classifier, purifier: Purifier, latents: Latents, codes: Codes) -> bool:
    """Whether a vote's form gives pairs, the first ones and as many and one of other latents, the modules' logits."""
    pairs = min(TRIED, len(latents), len(codes))
    z, c = latents[:pairs], codes[:pairs]
    tried = ((z, c), (torch.cat([-z, z[:1]]), torch.cat([c, c[:1]])))
    return all(alike(form.logits(z, c), query(classifier, purifier.decode(z, c))) for z, c in tried)


def same(form: Classifier, model: Classifier, images: Images) -> bool:
    """Whether both give these images the same logits, to rounding, as attacks come to them."""
    with torch.no_grad():
        if isinstance(form, Folded):
            ours = Backpropagation(form, images).logits(torch.zeros_like(images))
        else:
            ours = form(images)
        return alike(ours, query(model, images))


def alike(ours: Tensor, theirs: object, typical: Callable[[Tensor], Tensor] = torch.median) -> bool:
    """Whether two tensors, as of logits, differ by rounding alone.

    Args:
        ours: any.
        theirs: likewise.
        typical: which of their magnitudes rounding is as large as: the median, which a class that is masked does not
            move, or the largest, of sums that may be smaller than their parts.
    """
    if not isinstance(theirs, Tensor) or theirs.shape != ours.shape or theirs.dtype != ours.dtype or not len(ours):
        return False
    size = float(typical(theirs.abs()))
    return math.isfinite(size) and torch.allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE * size)
