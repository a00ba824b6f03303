"""The labelled images of an evaluation: how many of them, and their labels as the model numbers its classes.

By name, where the model says what its classes are called, or where the data set's classes are called by the numbers of
a model that does not say. By position, where one side has no names but numbers in order, or both have as many classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from carso.data.dataset import Dataset
from carso.errors import DataError, ModelError, few
from carso.types import Images, Labels


def first(dataset: Dataset, n: int | None = None, usual: int | None = None) -> tuple[Images, Labels]:
    """The first images (N, C, H, W) of a data set and their labels (N,).

    Args:
        dataset: labelled images.
        n: how many; by default `usual`, or all where there are no more.
        usual: None for all.

    Raises:
        DataError: if it has no labels, or fewer than n images.
    """
    labels = dataset.required_labels
    if n is not None:
        check_enough(dataset, n)
    return dataset[: n or usual].images, labels[: n or usual]


def check_enough(dataset: Dataset, n: int) -> None:
    """Raise a DataError unless there are n images."""
    if n > len(dataset):
        raise DataError(f"{dataset.name}: has {len(dataset)} images, fewer than the {n} asked for")


def check_shape(dataset: Dataset, shape: Sequence[int]) -> None:
    """Raise a DataError unless the images have the shape (C, H, W) that a defence takes."""
    _check_shape(dataset, shape, "its images", "the defence takes")


def check_alike(dataset: Dataset, split: str, shape: Sequence[int]) -> None:
    """Raise a DataError unless the images of a split have the shape (C, H, W) of those of train."""
    _check_shape(dataset, shape, f"the images of {split}", "those of train")


def _check_shape(dataset: Dataset, shape: Sequence[int], which: str, others: str) -> None:
    found, wanted = dataset.shape, tuple(shape)
    if found != wanted:
        raise DataError(f"{dataset.name}: {which} are {found}, {others} {wanted}{_made(found, wanted)}")


def _made(shape: Sequence[int], wanted: Sequence[int]) -> str:
    """What makes pictures of a shape (C, H, W) such as is wanted."""
    (channels, *sides), (others, height, width) = shape, wanted
    told = [f"--size {height}x{width}"] if sides != [height, width] else []
    told += [f"--channels {others}"] if channels != others and others in (1, 3) else []
    return f"; pictures of a folder are made so by {' '.join(told)}, or in a recipe" if told else ""


def matched(dataset: Dataset, classes: int, names: Sequence[str] | None = None) -> Dataset:
    """A data set whose labels are the numbers of a model's classes, and whose classes are called as the model does.

    Args:
        dataset: the images, labelled or not.
        classes: how many the model knows.
        names: what it calls them, in order; None if it does not say.

    Raises:
        DataError: if the images have a class that the model does not know, or which is which cannot be known.
        ModelError: if the model has more or fewer names than classes.
    """
    if dataset.labels is None:
        return dataset
    own = named(names, classes)
    if len(own) != classes:
        raise ModelError(f"the model names {len(own)} classes and tells {classes} apart; mend its class_names")
    if dataset.classes == own:
        return dataset
    for either in (own, dataset.classes):
        if twice := [name for name, count in Counter(either).items() if count > 1]:
            raise DataError(f"{dataset.name}: several classes are called {_some(twice)}, so which is which is unknown")
    if _are_among(dataset, own, anyway=names is None):
        places = torch.tensor([own.index(name) if name in own else -1 for name in dataset.classes])
        return replace(dataset, labels=places[dataset.labels], classes=own)
    alike = names is None and len(dataset.classes) == classes
    if not alike and dataset.classes != numbers(len(dataset.classes)):
        raise DataError(_strangers(dataset, own, names is not None))
    highest = int(dataset.labels.max())
    if highest >= classes:
        raise DataError(f"{dataset.name}: has the label {highest}, the model knows the classes 0 to {classes - 1}")
    return replace(dataset, classes=dataset.classes if alike else own)


def names_of(model: object) -> tuple[str, ...] | None:
    """What a model calls its classes, in order: its attribute `class_names`; None if it has none."""
    names = getattr(model, "class_names", None)
    return None if names is None else tuple(map(str, names))


def named(names: Sequence[str] | None, classes: int) -> tuple[str, ...]:
    """The names of a model's classes, or their numbers where it says none."""
    return tuple(names or numbers(classes))


def numbers(classes: int) -> tuple[str, ...]:
    """What classes without names are called: "0", "1" and so on."""
    return tuple(map(str, range(classes)))


def _are_among(dataset: Dataset, own: Sequence[str], anyway: bool) -> bool:
    """Whether the model's classes include those of the images, or all of the data set's if `anyway`."""
    met = range(len(dataset.classes)) if anyway else dataset.required_labels.unique().tolist()
    return {dataset.classes[label] for label in met} <= set(own)


def _strangers(dataset: Dataset, own: Sequence[str], named: bool) -> str:
    theirs = _some([name for name in dataset.classes if name not in own] or dataset.classes)
    if named:
        return f"{dataset.name}: has the classes {theirs}, the model knows {_some(own)}; name them as it does"
    return (
        f"{dataset.name}: has {len(dataset.classes)} classes ({theirs}), the model {len(own)} without names, "
        f"so which is which is unknown; name them by their numbers, 0 to {len(own) - 1}, or give the model the "
        "attribute class_names, what its classes are called, in order"
    )


def _some(names: Sequence[str]) -> str:
    return few([repr(name) for name in names])
