"""N of the user's own: a module that is given, or what a function returns that a recipe names.

What it returns is made once and looked at, and copied to be trained or handed out, or made anew if it cannot be
copied; where the recipe trains it, every stage has it made anew, so that its first weights follow from the stage's
seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import nn

from carso.data import Dataset
from carso.data.labelled import named, names_of
from carso.errors import ModelError, RecipeError
from carso.storage import factory, weights
from carso.training.design import check_classes
from carso.training.recipe import ClassifierSpec


@dataclass(frozen=True)
class Own:
    """A classifier of the user's own, if there is one.

    Args:
        spec: what the recipe says of the classifier.
        given: a trained module, in place of the function's.
    """

    spec: ClassifierSpec
    given: nn.Module | None = None

    @cached_property
    def module(self) -> nn.Module | None:
        """To be looked at, and left as it is; None where N is of the library.

        Raises:
            RecipeError: if the function cannot be called, or returns something else.
        """
        return self.made() if self.given is None else self.given

    def made(self) -> nn.Module | None:
        """What the function returns now, whatever is given; None if the recipe names none.

        Raises:
            RecipeError: as for `module`.
        """
        if self.spec.factory is None:
            return None
        try:
            return factory.module(self.spec.factory)
        except ModelError as error:
            raise RecipeError(f"classifier.factory {error}") from error

    def lent(self) -> nn.Module | None:
        """What is handed out: what is given itself, of what the function returned a copy, or another that it returns.

        Raises:
            RecipeError: as for `module`.
        """
        if self.given is not None or (module := self.module) is None:
            return self.given
        copied = factory.copied(module)
        return self.made() if copied is module else copied

    def check(self, train: Dataset, trained: bool) -> None:
        """Hold it to the images, and what a function returns trained to the same weights in every call.

        Raises:
            RecipeError: if they are others, or as for `module`.
            ModelError, DataError: as for `check_classes`.
        """
        if (module := self.module) is None:
            return
        again = self.made() if trained and self.given is None else None
        if again is not None and weights.digest(module) != weights.digest(again):
            raise RecipeError(
                f"classifier.factory {self.spec.factory!r} returns other weights in every call; load them in it, or "
                "seed it"
            )
        check_classes(module, train)

    def classes(self, train: Dataset) -> int:
        """How many N knows, or will."""
        return len(train.classes) if self.module is None else check_classes(self.module, train)

    def names(self, train: Dataset) -> tuple[str, ...]:
        """What N calls its classes, or will: as the data set does, unless it is of the user's own."""
        return train.classes if self.module is None else named(names_of(self.module), self.classes(train))
