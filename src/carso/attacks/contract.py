"""What an attack may be given: images in [0, 1], one class per image, a model that returns finite logits."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from carso.errors import ModelError
from carso.nn import evaluating
from carso.types import Classifier, check_images

F = TypeVar("F", bound=Callable[..., Tensor])


def checked(attack: F) -> F:
    """Wrap `attack(model, images, labels, ...) -> images`: check both sides, run the model in eval mode.

    The model is tried on the first image before the attack sees it. Its mode, the `requires_grad` flags and the
    gradients of its parameters stay as they are; gradients are enabled whatever the caller's context.

    Raises:
        DataError: if the images are not (B, C, H, W) in [0, 1].
        ValueError: if they are not float32 or the batch is empty; for labels of the wrong shape, type or range.
        ModelError: if the model's output is not finite logits (batch, classes), or the attack returns NaN.
    """

    @functools.wraps(attack)
    def guarded(model: Classifier, images: Tensor, labels: Tensor, *args: Any, **options: Any) -> Tensor:
        check_images(images)
        if images.dtype != torch.float32 or not len(images):
            raise ValueError(
                f"attacks take a float32 batch of images, not {images.dtype} of shape {tuple(images.shape)}"
            )
        with evaluating(model), torch.inference_mode(False), torch.enable_grad():
            images, labels = images.detach().clone(), labels.clone()
            check_labels(labels, logits_of(model, images[:1]).shape[1], len(images))
            found = attack(model, images, labels.long(), *args, **options).detach()
        if found.isnan().any():
            name = getattr(attack, "__name__", "the attack")
            raise ModelError(
                f"{name} met NaN: the model's logits or gradients are not finite on some images; "
                "look for NaN and infinity in its weights, and for roots and logarithms of zero"
            )
        return found

    return cast(F, guarded)


def check_labels(labels: Tensor, classes: int, batch: int) -> None:
    """Raise ValueError unless `labels` holds one integer in [0, classes) per image."""
    if labels.shape != (batch,):
        raise ValueError(f"labels must have shape ({batch},), one per image, not {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be integers, not {labels.dtype}")
    low, high = (bound.item() for bound in labels.aminmax())
    if low < 0 or high >= classes:
        raise ValueError(f"labels must lie in [0, {classes}) for a model of {classes} classes, not in [{low}, {high}]")


def logits_of(model: Classifier, images: Tensor) -> Tensor:
    """The model's logits (batch, classes), without gradient.

    Raises:
        ModelError: if the output has another type or shape, or is not finite.
    """
    with torch.no_grad():
        logits = model(images)
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images) or logits.shape[1] < 2:
        raise ModelError(f"the model must return logits of shape ({len(images)}, classes >= 2), not {shape}")
    if not (logits.is_floating_point() and logits.isfinite().all()):
        raise ModelError(f"the model must return finite floating-point logits, not {logits.dtype} with NaN or infinity")
    return logits
