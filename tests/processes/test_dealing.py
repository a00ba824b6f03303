import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from carso.processes.dealing import Deal, deal_of, dealing, drawn

SIZES = st.integers(1, 40), st.integers(1, 6)


@given(*SIZES)
def test_every_row_is_dealt_once(size: int, processes: int) -> None:
    whole = torch.arange(size)
    hands = [Deal(size, r, processes).rows(whole) for r in range(processes)]
    assert torch.equal(torch.cat(hands).sort().values, whole)
    assert [len(hand) for hand in hands] == [len(Deal(size, r, processes)) for r in range(processes)]


@given(*SIZES, st.data())
def test_a_part_is_dealt_as_the_whole_is(size: int, processes: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size))
    end = data.draw(st.integers(start, size))
    for r in range(processes):
        deal = Deal(size, r, processes)
        mine, part = deal.rows(torch.arange(size)), deal.part(start, end)
        assert torch.equal(part.rows(torch.arange(start, end)), mine[deal.before(start) : deal.before(end)])


@pytest.mark.parametrize("axis", [0, 1])
def test_chance_is_drawn_for_the_whole_batch(axis: int) -> None:
    def draw(rows: int) -> Tensor:
        return torch.rand((rows, 3) if axis == 0 else (3, rows), generator=torch.Generator().manual_seed(0))

    for r in range(4):
        deal = Deal(10, r, 4)
        with dealing(deal):
            mine = drawn(draw, len(deal), axis)
        assert torch.equal(mine, draw(10).index_select(axis, torch.arange(r, 10, 4)))
    assert torch.equal(drawn(draw, 10, axis), draw(10))


def test_rows_may_be_stacked() -> None:
    whole = torch.arange(12)
    assert Deal(6, 1, 2).rows(whole).tolist() == [1, 3, 5, 7, 9, 11]
    assert Deal(6, 1, 4).rows(whole).tolist() == [1, 5, 7, 11]


def test_rows_that_nobody_dealt_are_whole() -> None:
    assert deal_of(5) == Deal(5)
    with dealing(Deal(10, 0, 2)):
        assert deal_of(5) == Deal(10, 0, 2)
        assert deal_of(3) == Deal(3)
