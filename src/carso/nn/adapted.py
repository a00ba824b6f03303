"""Someone else's classifier made to honour the contract: images in [0, 1] go in, logits come out.

    z = pick(f((x - mean) / std))    f: a model whose input is to be normalised, or whose answer is more than logits

Two lines of a `package.module:function` are enough:

    def build():
        return carso.nn.Adapted(AutoModelForImageClassification.from_pretrained(...), mean=(0.5,) * 3, std=(0.5,) * 3)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from carso.errors import ModelError
from carso.nn.querying import input_dtype
from carso.nn.standardise import Standardise


class Adapted(nn.Module):
    """A classifier around a model that answers with a dict, a tuple, a list or an object, or wants normalised input.

    Args:
        model: any module of images (B, C, H, W).
        mean: what is subtracted from each channel of the image in [0, 1], one number per channel: a list, tensor or
            array; goes with `std`.
        std: what each channel is then divided by, positive.
        output: the key or attribute under which the logits are, as in a Hugging Face `ModelOutput`; or their place, if
            the answer is a tuple or list, in which a name stands for the first. A tensor is taken whole.

    Raises:
        ModelError: if `mean` and `std` do not go together, or are anything else.
    """

    input_dtype = torch.float32
    """What it takes; the model gets what it computes in."""

    def __init__(
        self,
        model: nn.Module,
        mean: Iterable[float] | Tensor | None = None,
        std: Iterable[float] | Tensor | None = None,
        output: str | int = "logits",
    ) -> None:
        super().__init__()
        self.standardise = nn.Identity() if mean is None and std is None else _standardise(mean, std)
        self.model = model
        self.output = output

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1].

        Raises:
            ModelError: if the answer has nothing under `output`.
        """
        normalised, own = self.standardise(images), input_dtype(self.model)
        return picked(self.model(normalised if own in (None, torch.float32) else normalised.to(own)), self.output)

    def extra_repr(self) -> str:
        """Where the logits are."""
        return f"output={self.output!r}"


def _standardise(mean: Any, std: Any) -> Standardise:
    try:
        both = torch.tensor([list(mean), list(std)], dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        both = torch.empty(0)
    if both.ndim != 2 or not both.numel() or not both.isfinite().all() or not (both[1] > 0).all():
        raise ModelError(f"mean and std need one number per channel each, std positive ones, not {mean} and {std}")
    return Standardise(*both.tolist())


@fx.wrap
def picked(answer: object, output: str | int) -> Tensor:
    """The logits in a model's answer.

    Raises:
        ModelError: if there are none under that name or at that place.
    """
    found = answer if isinstance(answer, Tensor) else _under(answer, output)
    if isinstance(found, Tensor):
        return found
    held = f" with {', '.join(map(str, answer))}" if isinstance(answer, Mapping) else ""
    raise ModelError(f"the model's answer, a {type(answer).__name__}{held}, has no tensor under output={output!r}")


def _under(answer: object, output: str | int) -> object:
    if isinstance(answer, Mapping):
        return answer.get(output)
    if isinstance(answer, tuple | list) and not hasattr(answer, str(output)):
        place = output if isinstance(output, int) else 0
        return answer[place] if -len(answer) <= place < len(answer) else None
    return getattr(answer, str(output), None)


def doubt_of_input(right: int, total: int, classes: int) -> str | None:
    """A line on what may be amiss with a classifier that is hardly better than chance on clean images; None if it is.

    Args:
        right: how many of them it is right on.
        total: how many there are, at least one.
        classes: how many it knows.
    """
    if right / total > 1 / classes + (1 - 1 / classes) / 10:
        return None
    return (
        f"warning: the classifier is right on {right} of {total} clean images, hardly better than chance among "
        f"{classes} classes; if it wants its input normalised, wrap it: carso.nn.Adapted(model, mean=..., std=...)"
    )
