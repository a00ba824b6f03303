"""Dealing a batch: each process takes some of its rows, and chance is drawn for the whole of it.

    process r of P has the rows r, r + P, r + 2P, ... < B

What chance decides in a batch is drawn alike by all processes, for all B rows, and each keeps what is of its own: what
is learnt from the batch does not know how many share it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from carso.processes import group


@dataclass(frozen=True)
class Deal:
    """Rows that this process has of so many: every `step`-th, from `first`.

    Args:
        size: B, of the whole.
        first: r.
        step: P.
    """

    size: int
    first: int = 0
    step: int = 1

    def __len__(self) -> int:
        return self.before(self.size)

    def before(self, row: int) -> int:
        """How many of its rows lie before a row of the whole."""
        return len(range(self.first, row, self.step))

    def part(self, start: int, end: int) -> Deal:
        """Its rows of the whole's from `start` to `end`."""
        return Deal(end - start, (self.first - start) % self.step, self.step)

    def rows(self, whole: Tensor, axis: int = 0) -> Tensor:
        """Its rows of a tensor that has B along an axis, or B several times over."""
        if self.step == 1 or not self.size:
            return whole
        stacked = torch.unflatten(whole, axis, (-1, self.size))
        mine = torch.tensor(range(self.first, self.size, self.step), dtype=torch.long, device=whole.device)
        return torch.flatten(stacked.index_select(axis + 1, mine), axis, axis + 1)


_dealt = Deal(0)


def dealt() -> Deal:
    """The deal that is drawn for as a whole just now."""
    return _dealt


def deal_of(count: int) -> Deal:
    """The deal to which so many rows at hand belong; themselves alone where they are not dealt."""
    return _dealt if _dealt.step > 1 and len(_dealt) == count else Deal(count)


@contextmanager
def dealing(deal: Deal) -> Iterator[Deal]:
    """Draw whatever chance decides for the rows of this deal as for the whole."""
    global _dealt
    before, _dealt = _dealt, deal
    try:
        yield deal
    finally:
        _dealt = before


def among_all(size: int) -> Deal:
    """B rows dealt to all processes."""
    return Deal(size, group.rank(), group.count())


def drawn(draw: Callable[[int], Tensor], count: int, axis: int = 0) -> Tensor:
    """What `draw` draws for the `count` rows at hand, along an axis; of dealt ones, its rows of a draw for all B."""
    deal = deal_of(count)
    return deal.rows(draw(deal.size), axis)
