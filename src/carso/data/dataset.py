"""A set of images, with or without labels, whose values are known to be good."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from carso.data.lazy import Lazy
from carso.errors import DataError
from carso.types import Images

CHUNK, VALUES = 5000, 5000 * 28 * 28
"""The most images, and the most of their values, that are worked on at once where it is nobody's choice."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, and their labels where there are any.

    Attributes:
        name: what messages and results call it.
        pixels: (N, C, H, W), N at least 1: float32 in [0, 1], or bytes v that stand for v / 255, in memory or `Lazy`.
        labels: int64 (N,) in 0..len(classes) - 1, or None.
        classes: the names of the classes, in the order of the labels; empty where there are no labels.
        places: where each image lay in the set that it was taken from (N,); None where all lie as they did.
        mixed: whether any first images stand for all, as published files have them, or an order that was drawn.

    Raises:
        DataError: if the pixels or labels are anything else.
    """

    name: str
    pixels: Tensor | Lazy
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    places: Tensor | None = None
    mixed: bool = False

    def __post_init__(self) -> None:
        check_names((self.name, *self.classes))
        if not isinstance(self.pixels, Lazy):
            check_tensors(self.name, images=self.pixels)
            check_pixels(self.pixels, self.name)
        check_tensors(self.name, labels=self.labels)
        if self.labels is not None:
            check_labels(self.labels, len(self), len(self.classes), self.name)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: SupportsIndex | slice | Tensor) -> Dataset:
        """The image at a position, as a set of one, or those at a slice, at positions, or where a tensor is true."""
        if not isinstance(index, slice | Tensor):
            position = range(len(self))[_position(index)]
            index = slice(position, position + 1)
        labels = None if self.labels is None else self.labels[index]
        return replace(self, pixels=self.pixels[index], labels=labels, places=self._places(index))

    def _places(self, index: slice | Tensor) -> Tensor | None:
        """Where the images at positions lay in the set that these were taken from."""
        if isinstance(index, slice):
            start, _, step = index.indices(len(self))
            if self.places is None and (start, step) == (0, 1):
                return None
        places = torch.arange(len(self)) if self.places is None else self.places
        return places[index.cpu() if isinstance(index, Tensor) else index]

    def shuffled(self, seed: int) -> Dataset:
        """The images in an order drawn by a seed."""
        return replace(self[self._drawn(seed)], mixed=True)

    def in_turns(self) -> Dataset:
        """The images in an order of which any first ones stand for all.

        Classes that lie one after another, as pictures in folders do, take turns, each as often as it is common.
        Without labels, by which such classes could be seen, the order is drawn by a fixed seed, unless the set is
        `mixed`. Any other order stays.
        """
        order = self.turns()
        return self if order is None else replace(self[order], mixed=True)

    def turns(self) -> Tensor | None:
        """Where the images of `in_turns` lie in this set, in their order (N,); None where all stay in their places."""
        labels = self.labels
        if labels is None:
            return None if self.mixed else self._drawn(0)
        if bool((labels.diff() < 0).any()):
            return None
        counts = labels.bincount()
        begun = counts.cumsum(0) - counts
        places = torch.arange(len(self), device=labels.device) - begun[labels]
        return ((places + 0.5).double() / counts[labels]).argsort(stable=True)

    def _drawn(self, seed: int) -> Tensor:
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))

    @property
    def images(self) -> Images:
        """All images, float32 (N, C, H, W) in [0, 1]; of a large set, take some first: `dataset[:100].images`."""
        if isinstance(self.pixels, Lazy):
            return torch.cat([images for _, images in self.chunks()])
        return as_images(self.pixels)

    @property
    def required_labels(self) -> Tensor:
        """The labels; a DataError where there are none."""
        if self.labels is None:
            raise DataError(f"{self.name}: has no labels, and this needs them")
        return self.labels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of every image."""
        channels, height, width = self.pixels.shape[1:]
        return channels, height, width

    @property
    def held(self) -> int:
        """Bytes of memory that its images take as they lie."""
        return self.pixels.nbytes if isinstance(self.pixels, Tensor) else 0

    @cached_property
    def moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of every channel, the latter at least a thousandth."""
        count = len(self) * math.prod(self.shape[1:])
        sums = torch.zeros(2, self.shape[0], dtype=torch.float64)
        for _, images in self.chunks():
            wide = images.double()
            sums += torch.stack([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3))]).cpu()
        mean, squares = sums / count
        spread = (squares - mean**2).clamp(min=0).sqrt().clamp(min=1e-3)
        return tuple(mean.tolist()), tuple(spread.tolist())

    def to(self, device: torch.device) -> Dataset:
        """The same set on a device; what is `Lazy` stays where it is, and is handed out there."""
        pixels, labels = self.pixels.to(device), None if self.labels is None else self.labels.to(device)
        return self if pixels is self.pixels and labels is self.labels else replace(self, pixels=pixels, labels=labels)

    def batches(self, order: Iterable[slice | Tensor]) -> Iterator[Images]:
        """The images at positions, float32 in [0, 1], batch by batch; each is read when it is asked for."""
        held = self.pixels
        found = held.batches(order) if isinstance(held, Lazy) else (held[index] for index in order)
        return map(as_images, found)

    def chunks(self, most: int = CHUNK) -> Iterator[tuple[slice, Images]]:
        """All images in their order, at most so many at a time, and no more than fit into memory; where each lies."""
        spans = self.spans(most)
        return zip(spans, self.batches(spans), strict=True)

    def spans(self, most: int = CHUNK) -> list[slice]:
        """Where the parts of `chunks` lie."""
        size = at_a_time(self.shape, most, VALUES)
        return [slice(start, start + size) for start in range(0, len(self), size)]


def _position(index: SupportsIndex) -> int:
    try:
        return operator.index(index)
    except TypeError:
        kind = type(index).__name__
        raise TypeError(f"a Dataset is indexed by a number, a slice or a tensor, not by {kind}") from None


def at_a_time(shape: Sequence[int], most: int, values: int, least: int = 1) -> int:
    """How many images (C, H, W) are taken at a time: so many, fewer where these have more values, at least so few."""
    return min(most, max(least, values // math.prod(shape)))


def as_images(pixels: Tensor) -> Images:
    """Bytes as float32 images v / 255; float32 as it is."""
    if pixels.dtype != torch.uint8:
        return pixels
    levels = pixels.new_full((), 255, dtype=torch.float32)  # a number would become its reciprocal on CUDA
    return pixels.to(torch.float32).div_(levels)


def check_pixels(pixels: Tensor, name: str) -> None:
    """Raise a DataError that begins with `name` unless pixels are bytes (N, C, H, W), or such images."""
    if pixels.dtype != torch.uint8:
        check_images(pixels, name)
    elif pixels.ndim != 4 or pixels.numel() == 0:
        raise DataError(f"{name}: images must have the shape (N, C, H, W), none of them 0, not {tuple(pixels.shape)}")


def check_images(images: Tensor, name: str) -> None:
    """Raise a DataError that begins with `name` unless images are float32 (N, C, H, W) in [0, 1]."""
    if images.ndim != 4:
        raise DataError(f"{name}: images must have the shape (N, C, H, W), not {tuple(images.shape)}")
    if images.dtype != torch.float32:
        raise DataError(f"{name}: images must be float32 in [0, 1], or bytes, not {images.dtype}")
    if images.numel() == 0:
        raise DataError(f"{name}: there are no images (shape {tuple(images.shape)})")
    lowest, highest = (value.item() for value in torch.aminmax(images))
    if math.isnan(lowest):
        raise DataError(f"{name}: image {_first(images.isnan())} holds NaN; repair or drop it")
    if lowest < 0 or highest > 1:
        where = _first((images < 0) | (images > 1))
        raise DataError(
            f"{name}: images must lie in [0, 1] but span {lowest:g} to {highest:g} (first in image {where}); "
            "scale them, and leave standardisation to the model"
        )


def check_labels(labels: Tensor, images: int, classes: int, name: str) -> None:
    """Raise a DataError that begins with `name` unless labels are int64, one per image, in 0..classes - 1."""
    if labels.dtype != torch.int64:
        raise DataError(f"{name}: labels must be int64, not {labels.dtype}")
    if labels.shape != (images,):
        raise DataError(f"{name}: {images} images need labels of shape ({images},), not {tuple(labels.shape)}")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        where = _first(wrong)
        raise DataError(f"{name}: label {labels[where].item()} of image {where} is not one of the {classes} classes")


def check_tensors(name: str, **values: object) -> None:
    """Raise a DataError that begins with `name` and names the first value that is neither a tensor nor None."""
    for what, value in values.items():
        if not isinstance(value, Tensor | None):
            kind = type(value).__name__
            raise DataError(f"{name}: {what} must be a tensor, not a {kind}; torch.as_tensor({what}) makes one")


def check_names(names: Iterable[str]) -> None:
    """Raise a DataError unless names, of a set or of its classes, can be written into a file of results."""
    for name in names:
        if any("\ud800" <= letter <= "\udfff" for letter in name):
            raise DataError(f"{name!a}: is no name in UTF-8; rename it")


def from_bytes(pixels: NDArray[np.uint8]) -> Images:
    """Bytes (N, C, H, W) as float32 images v / 255."""
    return torch.from_numpy(np.divide(pixels, np.float32(255), dtype=np.float32))


def _first(wrong: Tensor) -> int:
    return int(wrong.flatten(1).any(1).nonzero()[0]) if wrong.ndim > 1 else int(wrong.nonzero()[0])
