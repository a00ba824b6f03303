"""Which images belong to which split, where a set does not say so itself; no image belongs to two.

What is published in an order of its own, a training file of MNIST or CIFAR, has its last images held out. Pictures
that lie class by class are shared out by their names. Of the first n of them, all classes together,

    floor(n / 12) are for validation,   floor((n + 3) / 6) for test,   the rest for train,

so that every class gives the same share but for one picture. Within a class those are for test whose names have the
least SHA-256, and those for validation whose names follow: a picture that comes or goes moves hardly another one, and
none from train to test unless classes are of a handful.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
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


def shared_out(split: Split, classes: Sequence[Sequence[T]], name: Callable[[T], str], *, test: bool) -> list[T]:
    """The items of a split, class after class and in their order.

    Args:
        split: which one.
        classes: the items of each.
        name: of an item, by which it is known within its class.
        test: whether there is one; if not, its share is train's too.
    """
    found: list[T] = []
    before = 0
    for items in classes:
        upto = before + len(items)
        tests = (upto + 3) // 6 - (before + 3) // 6 if test else 0
        held_out = upto // TURN - before // TURN
        ranked = sorted(range(len(items)), key=lambda at: hashlib.sha256(_bytes(name(items[at]))).digest())
        parts = {"test": ranked[:tests], "validation": ranked[tests:][:held_out], "train": ranked[tests + held_out :]}
        found += [items[at] for at in sorted(parts[split])]
        before = upto
    return found


def _bytes(name: str) -> bytes:
    """A file's name as the file system has it, which need not be UTF-8."""
    return name.encode(errors="surrogateescape")
