"""What an attacker sees of a model: float32 logits, finite wherever the model's scores are more than NaN.

    s           scores of the model
    log s       where the scores are probabilities
    +-10,000    where they are infinite, as the logarithm of 0 and the odds of a probability rounded to 1 are; where
                finite scores of the image reach that far, twice the largest of them

Beside 10,000 float32 still tells differences of a thousandth, so an attack that needs no gradient goes on by the scores
of the other classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from carso.attacks.objective import is_random
from carso.errors import ModelError, of_memory
from carso.evaluation.queries import attackable, scores_of
from carso.fast import batch_of
from carso.types import Classifier, Images, Logits

INFINITE = 1e4
"""What stands for an infinite score, at least."""


@dataclass(frozen=True)
class Surface:
    """A model as attacks see it.

    Args:
        model: images to scores.
        name: what an error calls it.
        classes: how many it has.
        probabilities: whether its scores are probabilities.
        rounding: relative error of its scores, by their dtype.
        varies: whether calls of it differ; None where that has not been tried.
    """

    model: Classifier
    name: str
    classes: int
    probabilities: bool
    rounding: float
    varies: bool | None = None

    @classmethod
    def of(cls, model: Classifier, images: Images, name: str, classes: int | None = None) -> Surface:
        """What is seen of a model, tried on images (B, C, H, W).

        Raises:
            ModelError: as for `checked`.
        """
        scores = checked(model, images, name, classes)
        return cls(model, name, scores.shape[1], are_probabilities(scores), torch.finfo(scores.dtype).eps)

    def tried(self, images: Images) -> Surface:
        """The same, of which it is known whether its calls differ (see `is_random` of `carso.attacks.objective`)."""
        return self if self.varies is not None else replace(self, varies=is_random(self, images))

    @property
    def batch(self) -> int | None:
        """That of the model (see `batch_of` of `carso.fast`)."""
        return batch_of(self.model)

    def __call__(self, images: Images) -> Logits:
        """Logits (B, classes) of images (B, C, H, W), differentiable in them where the model is."""
        scores = scores_of(self.model, images, self.name, self.classes).float()
        if self.probabilities:
            scores = scores.clamp_min(torch.finfo(scores.dtype).tiny).log()
        finite = scores.nan_to_num(nan=torch.nan, posinf=0, neginf=0)
        return torch.where(scores.isinf(), scores.detach().sign() * beyond(scores), finite)


def beyond(scores: Tensor) -> Tensor:
    """For each row of scores (B, classes), a number (B, 1) of which all that is finite in it falls short."""
    largest = scores.detach().nan_to_num(nan=0, posinf=0, neginf=0).abs().amax(1, keepdim=True)
    return (2 * largest).clamp(INFINITE, torch.finfo(scores.dtype).max)


def are_probabilities(scores: Tensor) -> bool:
    """Whether every row is a distribution over the classes."""
    return bool((scores >= 0).all()) and torch.allclose(scores.sum(1), scores.new_ones(len(scores)), atol=1e-4)


@torch.no_grad()
def checked(model: Classifier, images: Images, name: str, classes: int | None = None) -> Tensor:
    """The scores of a first call.

    Raises:
        ModelError: if it fails, or they are no floating-point tensor (B, classes) without NaN.
    """
    scores = scores_of(model, images, name, classes)
    if not scores.is_floating_point():
        raise ModelError(f"{name} must return floating-point scores, not {scores.dtype}")
    if scores.isnan().any():
        raise ModelError(f"{name} returned NaN; an audit of it would mean nothing")
    return scores


def differentiable(model: Classifier, images: Images, name: str, classes: int) -> Classifier | None:
    """Another model on which images are crafted, as attacks take it; None where it has no gradient.

    Raises:
        ModelError: as for `checked`.
    """
    checked(model, images, name, classes)
    model = attackable(model, images)
    return model if has_gradient(model, images) else None


def has_gradient(model: Classifier, images: Images) -> bool:
    """Whether the model's logits can be differentiated with respect to the images."""
    x = images.detach().clone().requires_grad_()
    try:
        with torch.enable_grad():
            total = model(x).sum()
            gradient = torch.autograd.grad(total, x, allow_unused=True) if total.requires_grad else (None,)
    except (RuntimeError, ModelError) as error:  # such as a copy to numpy, which must not require a gradient
        if of_memory(error):
            raise
        return False
    return gradient[0] is not None
