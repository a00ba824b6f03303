"""What an attack may be given: images in [0, 1], one class per image, a model that returns finite logits.

The model is queried on copies (`carso.nn.querying`), so that it never meets the caller's images or the attack's own
state. An attack goes on where logits, losses or gradients are finite. Where they are not, a gradient counts as zero and
a loss as the lowest, and in the end `NonFiniteError` says so: an image at which an attack stood still for want of a
number must not pass for robust.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from carso.errors import ModelError, NonFiniteError
from carso.nn.modes import evaluating
from carso.nn.monitor import Monitor, monitored
from carso.nn.querying import Queried, query
from carso.types import Classifier, Images, Labels, check_images

F = TypeVar("F", bound=Callable[..., Tensor])


def checked(attack: F) -> F:
    """Wrap `attack(model, images, labels, ...) -> images`: check both sides, run the model in eval mode.

    The model is tried on the first image before the attack sees it. Its mode, the `requires_grad` flags and the
    gradients of its parameters stay as they are; gradients are enabled whatever the caller's context.

    Raises:
        DataError: if the images are not (B, C, H, W) in [0, 1].
        ValueError: if they are not float32 or the batch is empty; for labels of the wrong shape, type or range.
        ModelError: if the model's output is not floating-point logits (batch, classes).
        NonFiniteError: if logits, losses, gradients or what the attack returns were not finite; it carries the images.
    """

    @functools.wraps(attack)
    def guarded(model: Classifier, images: Tensor, labels: Any, *args: Any, **options: Any) -> Tensor:
        check_images(images)
        if images.dtype != torch.float32:
            raise ValueError(f"attacks take float32 images, not {images.dtype}; give images.float()")
        if not len(images):
            raise ValueError(f"attacks take one image at least, not an empty batch of shape {tuple(images.shape)}")
        monitor = Monitor()
        with evaluating(model), torch.inference_mode(False), torch.enable_grad(), monitored(monitor):
            images = images.detach().clone()
            classes = labels_of(labels, logits_of(model, images[:2]).shape[1], images)
            found = attack(Queried(model), images, classes, *args, **options).detach()
        bad = max(min(monitor.most, len(found)), int(found.isnan().flatten(1).any(1).sum()))
        if bad:
            raise NonFiniteError(found, bad, len(found), getattr(attack, "__name__", "the attack"))
        return found

    return cast(F, guarded)


def labels_of(labels: Any, classes: int, images: Images) -> Labels:
    """A tensor of the attack's own, on the images' device, of one integer in [0, classes) per image.

    Args:
        labels: a tensor, an array or a list.
        classes: of the model.
        images: the batch.

    Raises:
        ValueError: if they are anything else.
    """
    try:
        found = torch.as_tensor(labels, device=images.device).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"labels must be a tensor, array or list of integers, one per image: {error}") from error
    if found.shape != (len(images),):
        raise ValueError(f"labels must have shape ({len(images)},), one per image, not {tuple(found.shape)}")
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"labels must be integers, not {found.dtype}")
    low, high = (int(bound) for bound in found.long().aminmax())
    if low < 0 or high >= classes:
        raise ValueError(f"labels must lie in [0, {classes}) for a model of {classes} classes, not in [{low}, {high}]")
    return found.long()


def logits_of(model: Classifier, images: Tensor) -> Tensor:
    """The model's logits (batch, classes), without gradient.

    Raises:
        ModelError: if the output has another type or shape.
    """
    with torch.no_grad():
        logits = query(model, images)
    if logits.ndim != 2 or len(logits) != len(images) or logits.shape[1] < 2:
        shape = tuple(logits.shape)
        raise ModelError(f"the model must return logits of shape ({len(images)}, classes >= 2), not {shape}")
    if not logits.is_floating_point():
        raise ModelError(f"the model must return floating-point logits, not {logits.dtype}")
    return logits
