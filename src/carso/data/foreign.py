"""Data sets of the user's own: any map-style `torch.utils.data.Dataset` of (image, label) items, left where it is.

Items are read when they are asked for, by torch's `DataLoader`, in processes of their own if it is told to. An item may
also be an image alone, or a mapping, as Hugging Face's `datasets` give after `with_format("torch")`; these also say
what their classes are called, and hold the labels in a column.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, default_collate
from torch.utils.data import Dataset as Items

from carso.data.dataset import Dataset, check_pixels
from carso.data.labelled import numbers
from carso.data.lazy import Lazy
from carso.data.reading import decoding, naming
from carso.errors import DataError, shown
from carso.progress import track

BATCH = 256
"""Items of which only the labels are wanted, at once."""

HIGHEST = 10**6 - 1
"""A label at most: each up to the highest is a class, with a name."""


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
            bytes, or float32 in [0, 1]; a label a whole number from 0 to 999,999.
        name: what messages and results call it.
        classes: the names of the labels; by default those that its `features` tell, else their numbers.
        keys: of image and label in items that are mappings.
        workers: processes that read items, as `num_workers` of torch's `DataLoader`; 0 reads them in this one.

    Raises:
        DataError: if it is not map-style, has no items, or they are anything else; names the item.
    """
    count = _count(items, name)
    if count == 0:
        raise DataError(f"{name}: has no items")
    with naming(name):
        first = First.of(items, keys)
    reader = Reader(items, name, keys, workers, first)
    labels = None if first.label is None else reader.labels(count, first.label)
    names = tuple(classes) or (() if labels is None else reader.names(int(labels.max()) + 1))
    return Dataset(name, Lazy(reader, torch.arange(count), first.size), labels, names)


def _count(items: Items[Any] | Numbered, name: str) -> int:
    """How many items there are, by number."""
    if isinstance(items, Numbered) and not isinstance(items, IterableDataset):
        with suppress(NotImplementedError, TypeError):
            return len(items)
    raise DataError(
        f"{name}: must be a map-style data set, with a length and items by number, and is a {type(items).__name__}; "
        "a list of its items is one"
    )


def _pair(item: Any, keys: tuple[str, str]) -> tuple[Any, Any]:
    """Image and label of an item; the label is None where there is none."""
    if isinstance(item, Mapping):
        if keys[0] not in item:
            raise DataError(f"has the keys {', '.join(map(str, item))}, not {keys[0]!r}; pass keys")
        return item[keys[0]], item.get(keys[1])
    if isinstance(item, tuple | list) and item:
        return item[0], item[1] if len(item) > 1 else None
    return item, None


def _whole(label: Any) -> int:
    """A label, held to being a whole number."""
    with suppress(ArithmeticError, RuntimeError, TypeError, ValueError):
        if (whole := int(label)) == label and whole <= HIGHEST:
            return whole
    raise DataError(f"must have a whole number from 0 to {HIGHEST:,} for its label, and has {shown(label)}")


def _wholes(labels: Any, name: str) -> Tensor:
    """Labels (N,), all held to being whole numbers."""
    told = f"{name}: labels must be whole numbers from 0 to {HIGHEST:,}"
    try:
        found = torch.as_tensor(labels)
    except (RuntimeError, TypeError, ValueError):
        raise DataError(f"{told}, and some are {shown(labels)}") from None
    whole = found.to(torch.int64)
    wrong = ((found != whole) | (whole > HIGHEST)).nonzero()
    if len(wrong):
        position = int(wrong[0, 0])
        raise DataError(f"{told}, and that of item {position} is {found[position].item()}")
    return whole


def _tells(targets: Any, count: int, first: int) -> bool:
    """Whether these are as many labels, of which the first is known."""
    if not isinstance(targets, Sequence) and getattr(targets, "ndim", 0) != 1:
        return False
    try:
        return len(targets) == count and bool(targets[0] == first)
    except (KeyError, RuntimeError, TypeError, ValueError):
        return False


@dataclass(frozen=True)
class First:
    """What the first item is, and so all must be.

    Attributes:
        size: (C, H, W) of its image.
        dtype: of its image.
        label: None where it has none.
    """

    size: tuple[int, int, int]
    dtype: torch.dtype
    label: int | None

    @classmethod
    def of(cls, items: Any, keys: tuple[str, str]) -> First:
        """Read it, and hold it to what an item may be."""
        with naming("item 0"):
            with decoding():
                image, label = _pair(items[0], keys)
            if not isinstance(image, Tensor) or image.ndim != 3 or 0 in image.shape:
                raise DataError(
                    f"must hold an image as a tensor (C, H, W), none of them 0, and holds {_told(image)}; transform it"
                )
            channels, height, width = image.shape
            return cls((channels, height, width), image.dtype, None if label is None else _whole(label))

    def check(self, image: Any, label: Any) -> int | None:
        """The label of another item, which is held to this one."""
        if not isinstance(image, Tensor) or tuple(image.shape) != self.size or image.dtype != self.dtype:
            raise DataError(
                f"holds {_told(image)} for its image, and item 0 a tensor {self.size} of {self.dtype}; "
                "transform them to be alike"
            )
        if (label is None) != (self.label is None):
            which = ("no label", "one") if label is None else ("a label", "none")
            raise DataError(f"has {which[0]}, and item 0 has {which[1]}; give all a label, or none")
        return None if label is None else _whole(label)


def _told(image: Any) -> str:
    if isinstance(image, Tensor):
        return f"a tensor {tuple(image.shape)} of {image.dtype}"
    return f"a {type(image).__name__}"


@dataclass(frozen=True)
class Alike(Items[Any]):
    """Items as pairs of image and label, held to the first of them.

    Attributes:
        items: the data set.
        keys: of image and label in items that are mappings.
        first: what all must be.
    """

    items: Any
    keys: tuple[str, str]
    first: First

    def __getitems__(self, positions: list[int]) -> list[tuple[Tensor, int | None]] | DataError:
        """Those at positions, or what is wrong with one: raised in a process, it would lie below a traceback."""
        try:
            return [self._checked(*found) for found in zip(positions, self._found(positions), strict=True)]
        except DataError as error:
            return error

    def _checked(self, position: int, item: Any) -> tuple[Tensor, int | None]:
        with naming(f"item {position}"):
            image, label = _pair(item, self.keys)
            return image, self.first.check(image, label)

    def _found(self, positions: list[int]) -> Iterable[Any]:
        """The items, at once where the data set knows how; if that fails, one by one, which tells the one at fault."""
        if hasattr(self.items, "__getitems__"):
            with suppress(Exception):
                return list(self.items.__getitems__(positions))
        return map(self._one, positions)

    def _one(self, position: int) -> Any:
        with naming(f"item {position}"), decoding():
            return self.items[position]


def _collated(pairs: list[tuple[Tensor, int | None]] | DataError) -> tuple[Tensor, Tensor | None] | DataError:
    """Images (B, C, H, W) and labels (B,) as tensors."""
    if isinstance(pairs, DataError):
        return pairs
    images, labels = zip(*pairs, strict=True)
    return default_collate([*images]), None if None in labels else default_collate([*labels])


@dataclass(frozen=True)
class Reader:
    """Reads items of a data set of the user's.

    Attributes:
        items: the data set.
        name: what messages call it.
        keys: of image and label in items that are mappings.
        workers: processes that read items.
        first: what all items must be.
    """

    items: Items[Any] | Numbered
    name: str
    keys: tuple[str, str]
    workers: int
    first: First

    def __call__(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """The images at positions, batch by batch."""
        for images, _ in self._read(batches):
            check_pixels(images, self.name)
            yield images

    def labels(self, count: int, first: int) -> Tensor:
        """All labels (N,), of which the first is known."""
        targets = self._targets()
        if _tells(targets, count, first):
            return _wholes(targets, self.name)
        spans = torch.arange(count).split(BATCH)
        read = track(self._read(spans), f"reading the labels of {self.name}", len(spans))
        return torch.cat([labels for _, labels in read if labels is not None])

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

    def _read(self, batches: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor | None]]:
        positions, alike = map(Tensor.tolist, batches), Alike(self.items, self.keys, self.first)
        chance = torch.Generator().manual_seed(torch.initial_seed())  # torch's own would lose a number
        told: Any = {"batch_sampler": positions, "num_workers": self.workers, "collate_fn": _collated}
        loader = iter(DataLoader(alike, generator=chance, **told))
        while True:
            with naming(self.name), decoding():
                if isinstance(batch := next(loader, None), DataError):
                    raise batch
            if batch is None:
                return
            yield batch
