"""The errors that a user can mend; the command line prints them in one line and exits with status 2."""


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


class RecipeError(CarsoError):
    """A recipe has an unknown, mistyped or contradictory field."""


class WeightsError(CarsoError):
    """A weights file is missing, truncated or belongs to something else."""


class RunError(CarsoError):
    """An output folder cannot be used for this run."""
