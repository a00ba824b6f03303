"""The errors that a user can mend; the command line prints them in one line and exits with status 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class CarsoError(Exception):
    """Something in the input is wrong; the message names it and says what to do."""


class DataError(CarsoError):
    """A dataset, image or file of images cannot be used."""


class ModelError(CarsoError):
    """A classifier, layer or defence does not honour the contract."""


class NoGradientError(ModelError):
    """A model's logits do not depend differentiably on the images."""

    def __init__(self) -> None:
        super().__init__(
            "the model has no gradient: its output does not depend differentiably on the images; "
            "attack it with 'square' or 'spsa'"
        )


class NonFiniteError(ModelError):
    """Some of a model's gradients are NaN or infinite, so an attack could not follow them.

    Attributes:
        found: what the attack found nevertheless, (B, C, H, W) within the budget.
        images: how many of the images had such gradients.
        total: of how many.
    """

    def __init__(self, found: Tensor, images: int, total: int) -> None:
        super().__init__(
            f"the model's gradient is NaN or infinite on {images} of {total} images, which the attack could not "
            "follow; look for roots and logarithms of zero, or attack what comes before them"
        )
        self.found, self.images, self.total = found, images, total


class RecipeError(CarsoError):
    """A recipe has an unknown, mistyped or contradictory field."""


class WeightsError(CarsoError):
    """A weights file is missing, truncated or belongs to something else."""


class RunError(CarsoError):
    """An output folder cannot be used for this run."""
