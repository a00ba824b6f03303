"""A data set made to suit the columns of a table, or refused before any work."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from carso.data.dataset import Dataset, check_labels
from carso.data.labelled import check_shape, matched, names_of
from carso.defence import CARSO
from carso.evaluation import gallery
from carso.evaluation.models import Model, Models, class_count, device_of
from carso.evaluation.seeding import seeded


def suited(columns: Models, dataset: Dataset, seed: int) -> Dataset:
    """The data set as the gallery's column numbers and names its classes, and with those of all other columns.

    Args:
        columns: models by name.
        dataset: labelled images.
        seed: of the columns' own randomness while they are tried.

    Raises:
        DataError: if it has no labels, or a column takes other images or does not know one of their classes.
        ModelError: if a column breaks the contract.
    """
    for column in columns.values():
        if isinstance(column, CARSO):
            check_shape(dataset, column.purifier.shape)
    known = {name: _classes(column, dataset[:1].images, seed) for name, column in columns.items()}
    ours = gallery.subject(columns)
    dataset = matched(dataset, known[ours], names_of(columns[ours]))
    for name, classes in known.items():
        check_labels(dataset.required_labels, len(dataset), classes, f"{dataset.name}, for {name}")
    further = map(str, range(len(dataset.classes), max(known.values())))
    return replace(dataset, classes=(*dataset.classes, *further))


def _classes(column: Model, images: Tensor, seed: int) -> int:
    with seeded(seed, "first look"):
        return class_count(column, images.to(device_of(column)))
