"""Queries of a user's model that end in one line if they fail.

Like `carso.nn.query`, each hands over a copy of the images in the model's own dtype. Whatever goes wrong inside of
the model, in the first call or in the middle of a run, names it and what it was given.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn

from carso.errors import ModelError
from carso.fast import faster
from carso.nn.modes import evaluating
from carso.nn.querying import as_taken, blamed, unusable
from carso.types import Classifier, Images


def checked_query(model: Callable[..., Any], images: Images, name: str | None = None, **options: Any) -> Any:
    """What a model returns for its own copy of the images, in its dtype; a module runs in eval mode.

    Of a plain function the caller keeps the modules' buffers: put back here, they would spoil the backward pass.

    Args:
        model: a module, a method or a function of images.
        images: (B, C, H, W) in [0, 1], float32.
        name: what an error calls the model.
        options: passed on.

    Raises:
        ModelError: if it fails.
    """
    own_mode = evaluating(model) if isinstance(model, nn.Module) else nullcontext()
    what = f"{name or name_of(model)} cannot run on images {tuple(images.shape)} on {images.device}"
    with blamed(what), own_mode:
        return model(as_taken(model, images.clone()), **options)


def scores_of(
    model: Callable[..., Any], images: Images, name: str | None = None, classes: int | None = None, **options: Any
) -> Tensor:
    """Scores (B, classes) as the model returns them, in its own dtype.

    Args:
        model: a module or a function of images.
        images: (B, C, H, W) in [0, 1], float32.
        name: what an error calls the model.
        classes: how many there must be; by default any number from 2.
        options: passed on.

    Raises:
        ModelError: if it fails, or returns anything but a tensor of that shape.
    """
    scores, name = checked_query(model, images, name, **options), name or name_of(model)
    shape = f"({len(images)}, {classes or 'classes >= 2'})"
    if not isinstance(scores, Tensor):
        raise ModelError(f"{name} must return a tensor of scores {shape}, not {unusable(scores)}")
    if scores.ndim != 2 or len(scores) != len(images) or scores.shape[1] < 2 or classes not in (None, scores.shape[1]):
        raise ModelError(f"{name} must return scores of shape {shape}, not {tuple(scores.shape)}")
    return scores


def attackable(model: Classifier, images: Images) -> Classifier:
    """A model as an attack may query it: itself where it folds (`carso.fast`), which writes into nothing, else checked.

    Args:
        model: images to logits.
        images: (B, C, H, W), some of which the folded form is compared on.
    """
    with evaluating(model):
        folds = isinstance(model, nn.Module) and faster(model, images) is not model
    return model if folds else CheckedClassifier(model)


class CheckedClassifier:
    """A model behind `scores_of`, its scores in float32."""

    def __init__(self, model: Classifier) -> None:
        self.model = model

    def __call__(self, images: Images) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W), differentiable in them where the model is."""
        return scores_of(self.model, images).float()


def name_of(model: object) -> str:
    """A model's class, or a function's name."""
    return str(getattr(model, "__qualname__", type(model).__qualname__))
