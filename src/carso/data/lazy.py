"""Images that stay where they are until they are asked for: in a file, or in a data set of the user's."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

Read: TypeAlias = Callable[[Iterable[Tensor]], Iterator[Tensor]]
"""From positions, batch by batch, to what lies there: bytes or float32, (B, C, H, W)."""


@dataclass(frozen=True, eq=False)
class Lazy:
    """Some of the images behind a reader, in an order.

    Attributes:
        read: the reader.
        positions: int64 (N,), which of its images these are.
        size: (C, H, W) of each.
        device: where they go.
    """

    read: Read
    positions: Tensor
    size: tuple[int, int, int]
    device: torch.device | str = "cpu"

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: slice | Tensor) -> Lazy:
        """Those at a slice, at positions, or where a tensor is true; nothing is read."""
        return replace(self, positions=self._at(index))

    @property
    def shape(self) -> torch.Size:
        """(N, C, H, W)."""
        return torch.Size((len(self), *self.size))

    def to(self, device: torch.device) -> Lazy:
        """The same, to be handed out on a device."""
        return replace(self, device=device)

    def batches(self, order: Iterable[slice | Tensor]) -> Iterator[Tensor]:
        """What lies at each of these positions."""
        for batch in self.read(self._at(index) for index in order):
            yield batch.to(self.device)

    def _at(self, index: slice | Tensor) -> Tensor:
        return self.positions[index.cpu() if isinstance(index, Tensor) else index]
