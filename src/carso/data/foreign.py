"""Data sets of the user's own: any map-style `torch.utils.data.Dataset` of (image, label) items, left where it is.

Items are read when they are asked for, by torch's `DataLoader`, in processes of their own if it is told to. An item may
also be an image alone, or a mapping, as Hugging Face's `datasets` give after `with_format("torch")`; these also say
what their classes are called, and hold the labels in a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as Items

from carso.data.dataset import Dataset, check_pixels
from carso.data.labelled import numbers
from carso.data.lazy import Lazy
from carso.data.reading import decoding, naming
from carso.errors import DataError, shown
from carso.progress import track

BATCH = 256
"""Items of which only the labels are wanted, at once."""


@runtime_checkable
class Numbered(Protocol):
    """Items by their numbers, of a class that does not derive from torch's."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, position: Any) -> Any:
        """One of them."""


def from_torch(
    items: Items[Any] | Numbered,
    name: str,
    classes: Sequence[str] = (),
    *,
    keys: tuple[str, str] = ("image", "label"),
    workers: int = 0,
) -> Dataset:
    """A data set whose images are read from a map-style data set of torch's, batch by batch.

    Labels are its `targets`, as torchvision has them, or its column of that key, as Hugging Face's `datasets` have it;
    where there is neither, or items are transformed, all are read once for their labels.

    Args:
        items: has a length, and items (image, label), images alone, or mappings. An image is a tensor (C, H, W) of
            bytes, or float32 in [0, 1]; a label a whole number from 0.
        name: what messages and results call it.
        classes: the names of the labels; by default those that its `features` tell, else their numbers.
        keys: of image and label in items that are mappings.
        workers: processes that read items, as `num_workers` of torch's `DataLoader`; 0 reads them in this one.

    Raises:
        DataError: if it has no items, or they are anything else.
    """
    reader = Reader(items, name, keys, workers)
    count = len(items)  # type: ignore[arg-type]
    if count == 0:
        raise DataError(f"{name}: has no items")
    image, label = reader.item(0)
    if not isinstance(image, Tensor) or image.ndim != 3:
        what = f"a tensor {tuple(image.shape)}" if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise DataError(f"{name}: item 0 must hold an image as a tensor (C, H, W), and holds {what}; transform it")
    channels, height, width = image.shape
    labels = None if label is None else reader.labels(count, _whole(label, name))
    names = tuple(classes) or (() if labels is None else reader.names(int(labels.max()) + 1))
    return Dataset(name, Lazy(reader, torch.arange(count), (channels, height, width)), labels, names)


def _whole(label: Any, name: str) -> int:
    """The label of item 0, held to being a whole number."""
    try:
        if (whole := int(label)) == label:
            return whole
    except (ArithmeticError, RuntimeError, TypeError, ValueError):
        pass
    raise DataError(f"{name}: item 0 must have a whole number from 0 for its label, and has {shown(label)}")


def _wholes(labels: Any, name: str) -> Tensor:
    """Labels (N,), all held to being whole numbers."""
    try:
        found = torch.as_tensor(labels)
    except (RuntimeError, TypeError, ValueError):
        raise DataError(f"{name}: labels must be whole numbers from 0, and some are {shown(labels)}") from None
    whole = found.to(torch.int64)
    if (other := found[found != whole]).numel():
        raise DataError(f"{name}: labels must be whole numbers from 0, and one is {other[0].item()}")
    return whole


@dataclass(frozen=True)
class Reader:
    """Reads items of a data set of the user's.

    Attributes:
        items: the data set.
        name: what messages call it.
        keys: of image and label in items that are mappings.
        workers: processes that read items.
    """

    items: Items[Any] | Numbered
    name: str
    keys: tuple[str, str]
    workers: int

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images at positions, batch by batch."""
        for images, _ in self._read(batches):
            check_pixels(images, self.name)
            yield images

    def item(self, position: int) -> tuple[Any, Any]:
        """Image and label at a position; the label is None where there is none."""
        with naming(self.name), decoding():
            return self._pair(self.items[position])

    def labels(self, count: int, first: int) -> Tensor:
        """All labels (N,), of which the first is known."""
        targets = self._targets()
        if targets is not None and len(targets) == count and targets[0] == first:
            return _wholes(targets, self.name)
        spans = torch.arange(count).split(BATCH)
        read = track(self._read(spans), f"reading the labels of {self.name}", len(spans))
        return torch.cat([_wholes(labels, self.name) for _, labels in read])

    def names(self, count: int) -> tuple[str, ...]:
        """What so many classes are called, by the features of the data set if they tell, else their numbers."""
        told = getattr(self._features().get(self.keys[1]), "names", None) or ()
        return tuple(map(str, told)) if len(told) >= count else numbers(count)

    def _targets(self) -> Any:
        """The labels of all items as the data set holds them; None if it does not, or transforms them."""
        items: Any = self.items
        if self.keys[1] in self._features() and items.format["type"] != "custom":
            return items[self.keys[1]][:]
        return None if getattr(items, "target_transform", None) is not None else getattr(items, "targets", None)

    def _features(self) -> Mapping[str, Any]:
        """The columns of one of Hugging Face's `datasets`; none of any other data set."""
        found = getattr(self.items, "features", None)
        return found if isinstance(found, Mapping) and hasattr(self.items, "format") else {}

    def _read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Any, Any]]:
        positions = map(Tensor.tolist, batches)
        chance = torch.Generator().manual_seed(torch.initial_seed())  # torch's own would lose a number
        items: Any = self.items
        loader = iter(DataLoader(items, batch_sampler=positions, num_workers=self.workers, generator=chance))
        while True:
            with naming(self.name), decoding():
                batch = next(loader, None)
            if batch is None:
                return
            yield self._pair(batch)

    def _pair(self, item: Any) -> tuple[Any, Any]:
        if isinstance(item, Mapping):
            if self.keys[0] not in item:
                raise DataError(f"its items have the keys {', '.join(map(str, item))}, not {self.keys[0]!r}; pass keys")
            return item[self.keys[0]], item.get(self.keys[1])
        return (item[0], item[1]) if isinstance(item, tuple | list) else (item, None)
