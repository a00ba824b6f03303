"""The errors that a user can mend; the command line prints them in one line and exits with status 2."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

LONGEST, VALUE = 500, 60
"""The most characters of a message, and of a value of a file that is shown in one."""


def shortened(text: str, most: int = LONGEST) -> str:
    """The text, cut where it is longer than `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def in_a_line(text: str, most: int = LONGEST) -> str:
    """The text in one line, cut where it is longer than `most` characters."""
    return shortened(" ".join(text.split()), most)


def shown(value: object) -> str:
    """A value that came from outside, as it may stand in a message."""
    return shortened(repr(value), VALUE)


def did_you_mean(name: str, known: Iterable[str], most: int = 1) -> str:
    """What a message asks of a name that nobody knows, behind it: up to `most` of the known that are near, if any."""
    near = get_close_matches(name, known, n=most)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or else what kind of error it is."""
    return str(error).strip().split("\n")[0] or type(error).__name__


def few(names: Sequence[str], most: int = 5) -> str:
    """The first of many names, and dots for the others."""
    return ", ".join([*names[:most], *["..."] * (len(names) > most)])


def of_memory(error: BaseException) -> bool:
    """Whether an error of Python, numpy, torch or CUDA says that there was not enough memory."""
    return isinstance(error, MemoryError) or bool(re.search("(out of|not enough|can't allocate) memory", str(error)))


class CarsoError(Exception):
    """Something in the input is wrong; the message names it, says what to do, and is never longer than `LONGEST`."""

    def __str__(self) -> str:
        return shortened(super().__str__())

    def __reduce__(self) -> tuple[object, ...]:
        """As another process gets it: said as it was, whatever it was made of."""
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[CarsoError], said: tuple[object, ...]) -> CarsoError:
    return kind.__new__(kind, *said)


class DataError(CarsoError):
    """A dataset, image or file of images cannot be used."""


class ModelError(CarsoError):
    """A classifier, layer or defence does not honour the contract."""


class NoGradientError(ModelError):
    """A model's logits do not depend differentiably on the images; says what to do instead."""

    def __init__(self, instead: str = "attack it with 'square' or 'spsa'") -> None:
        super().__init__(
            f"the model has no gradient: its output does not depend differentiably on the images; {instead}"
        )


class NothingRightError(ModelError):
    """A model has none of the clean images right, so that no attack could take anything from it."""


class NonFiniteError(ModelError):
    """An attack met logits, losses or gradients that are not finite; it went on where they are.

    Attributes:
        found: what it found nevertheless, (B, C, H, W) within the budget.
        images: on how many images at once something was not finite, at least.
        total: of how many.
    """

    def __init__(self, found: Tensor, images: int, total: int, attack: str = "the attack") -> None:
        self.found, self.images, self.total = found, images, total
        super().__init__(
            f"{attack} met NaN or infinity: logits, losses or gradients are not finite on at least {images} of "
            f"{total} images, which would pass for robust; look for NaN and infinity in the model's weights, and for "
            "roots and logarithms of zero, as in log(p / (1 - p)), or attack what comes before them"
        )


class RecipeError(CarsoError):
    """A recipe has an unknown, mistyped or contradictory field."""


class DivergenceError(CarsoError):
    """Training went astray: its loss or its weights are no longer finite."""


class WeightsError(CarsoError):
    """A weights file is missing, truncated or belongs to something else."""


class RunError(CarsoError):
    """An output folder cannot be used for this run."""
