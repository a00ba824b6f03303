"""Querying someone else's model: on a copy of the images, in its own dtype, under the monitor in use.

    query(f, x) = f(x' in f's dtype)    x': a copy of x; the answer is float32 at least

Whatever a model writes into its input thus reaches nobody else, and a model in half or double precision answers
float32 images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from carso.errors import LONGEST, CarsoError, ModelError, NoGradientError, in_a_line, of_memory
from carso.nn.modes import evaluating
from carso.nn.monitor import monitor_in_use, monitored
from carso.types import Classifier

UNDIFFERENTIABLE = ("Can't call numpy() on Tensor that requires grad", "Inference tensors cannot be saved for backward")
"""What torch says of a model that answers, but only if nobody wants its gradient."""

UNCAST = (torch.float16, torch.float64)
"""Dtypes of models that autocast leaves alone: float64 by itself, float16 by `uncast`."""


@dataclass(frozen=True)
class Queried:
    """A model that is queried whenever it is called."""

    model: Classifier

    def __call__(self, images: Tensor) -> Tensor:
        """See `query`."""
        return query(self.model, images)


def unqueried(model: Any) -> Any:
    """The model itself, or whatever else this is."""
    return model.model if isinstance(model, Queried) else model


def query(model: Classifier, images: Tensor) -> Tensor:
    """What the model answers to a copy of images (B, C, H, W), differentiable in them; float32 where it is less.

    Under a monitor, a gradient that is not finite counts as zero, and is noted.

    Raises:
        ModelError: if the answer is no tensor.
        NoGradientError: if the model cannot run on images of which a gradient is wanted.
    """
    model, monitor, copy = unqueried(model), monitor_in_use(), images.clone()
    if monitor is not None and copy.requires_grad:
        copy.register_hook(lambda slopes: None if slopes is None else monitor.cleaned(slopes))
    with monitored(None), uncast(model, copy.device):
        answer = _answer(model, as_taken(model, copy))
    if not answer.is_floating_point():
        return answer
    if monitor is not None:
        monitor.note(answer)
    return answer.to(widened(answer.dtype))


def answers(model: Classifier, parts: Iterable[Tensor]) -> Tensor:
    """The model's class (N,) of every image, in eval mode, from images (B, C, H, W) part by part.

    Raises:
        ModelError: if it fails, as one does that takes fewer images at a time.
    """
    with torch.no_grad(), evaluating(model):
        return torch.cat([_class_of(model, some) for some in parts])


def _class_of(model: Classifier, images: Tensor) -> Tensor:
    mend = "if these are too many for it, wrap it in a module that answers them in parts"
    with blamed(f"the classifier cannot run on {len(images)} images at a time", mend):
        return query(model, images).argmax(1)


@contextmanager
def blamed(what: str, mend: str = "") -> Iterator[None]:
    """Tell whatever a model of the user's raises as its own, but for want of memory, and what is told already.

    Raises:
        ModelError: `what` went wrong, the error, and how to `mend` it where that is known.
    """
    try:
        yield
    except CarsoError:
        raise
    except Exception as error:  # a model of the user's may fail in any way
        if of_memory(error):
            raise
        why = in_a_line(f"{type(error).__name__}: {error}", LONGEST // 2)
        raise ModelError(f"{what}: {why}{'; ' if mend else ''}{mend}") from error


def _answer(model: Classifier, images: Tensor) -> Tensor:
    try:
        answer: object = model(images)
    except RuntimeError as error:
        if images.requires_grad and any(words in str(error) for words in UNDIFFERENTIABLE):
            raise NoGradientError from error
        raise
    if not isinstance(answer, Tensor):
        raise ModelError(f"the model must return a tensor, not {unusable(answer)}")
    return answer


def unusable(answer: object) -> str:
    """What an answer is that is no tensor, and what may take the logits out of it."""
    holds = isinstance(answer, Mapping | tuple | list) or hasattr(answer, "logits")
    return type(answer).__name__ + ("; wrap it: carso.nn.Adapted(model, output='logits')" if holds else "")


def as_taken(model: Classifier, images: Tensor) -> Tensor:
    """The images in the model's own dtype, if it has one and no autocast sees to it, which leaves some alone."""
    own = input_dtype(model)
    cast = torch.is_autocast_enabled(images.device.type) and own not in UNCAST
    return images if own is None or cast else images.to(own)


def uncast(model: Classifier, device: torch.device) -> AbstractContextManager[object]:
    """A context in which no autocast mixes bfloat16 into a model in float16: norms and attention refuse the mixture."""
    alone = torch.is_autocast_enabled(device.type) and input_dtype(model) is torch.float16
    return torch.autocast(device.type, enabled=False) if alone else nullcontext()


def input_dtype(model: Classifier) -> torch.dtype | None:
    """What a module takes: its `input_dtype` if it says so, else the dtype of its weights and buffers if all share it.

    A module that converts its input itself, after arithmetic of higher precision, should say so.
    """
    if not isinstance(model, nn.Module):
        return None
    if isinstance(said := getattr(model, "input_dtype", None), torch.dtype):
        return said
    tensors = chain(model.parameters(), model.buffers())
    found = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    return found.pop() if len(found) == 1 else None


def widened(dtype: torch.dtype) -> torch.dtype:
    """A floating-point dtype, or float32 where that is wider."""
    return dtype if dtype.itemsize >= torch.float32.itemsize else torch.float32
