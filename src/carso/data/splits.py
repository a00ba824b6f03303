"""Which images belong to which split, where a set does not say so itself; no image belongs to two.

What is published in an order of its own, a training file of MNIST or CIFAR, has its last images held out. Pictures
that lie class by class are taken in turns, by their place a = 1, 2, ... in the list, so that every class gives the same
share but for one picture:

    validation where 12 divides a,   test where a leaves 3 when divided by 6,   train elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeVar

from carso.errors import DataError

T = TypeVar("T")

Split: TypeAlias = Literal["train", "validation", "test"]
"""`train` fits, `validation` is held out for every choice, `test` is for the figures that are reported."""

TURN = 12
"""One image in so many is held out as `validation`."""


def end(split: Split, count: int, held_out: int, name: str) -> slice:
    """The positions of a split in a file of `count` training images, of which the last are held out; all, for `test`.

    Raises:
        DataError: if there are none to hold out.
    """
    if split == "test":
        return slice(None)
    if split == "validation" and held_out == 0:
        raise DataError(f"{name}: holds too few training images ({count}) to hold any out for validation")
    return slice(count - held_out) if split == "train" else slice(count - held_out, None)


def turns(split: Split, items: Sequence[T], *, test: bool) -> list[T]:
    """The items of a split, in their order; without `test`, the places of test are train's too."""
    return [item for place, item in enumerate(items, 1) if _turn(place, test) == split]


def _turn(place: int, test: bool) -> Split:
    if place % TURN == 0:
        return "validation"
    return "test" if test and place % 6 == 3 else "train"
