"""Every form of a vote votes as the modules do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import pytest
import torch
from tests.fast.ballots import VIEWPOINTS, Build, Vote, convolved, corrected, expected, folded, made

from carso.fast.convolved import convolve_vote
from carso.fast.corrected import correct_vote
from carso.fast.products import product_dtype
from carso.fast.votes import fold_vote

Form: TypeAlias = tuple[Build, Callable[[], Vote]]

CONVOLUTIONS: list[Form] = [
    (convolve_vote, convolved),
    *((correct_vote, partial(corrected, *seen)) for seen in VIEWPOINTS),
]


@torch.no_grad()
@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("rows", [7, 64, 512])
@pytest.mark.parametrize("form", [(fold_vote, folded), *CONVOLUTIONS])
def test_float32_votes_are_those_of_the_modules(form: Form, rows: int) -> None:
    build, vote = form[0], form[1]()
    exact = made(build, vote, torch.float32)
    exact.rows = rows
    assert (expected(vote) > 0).sum(1).float().mean() > 1.5  # not unanimous
    assert torch.equal(exact.votes(*vote[2:]), expected(vote))


@pytest.mark.skipif(
    product_dtype(torch.device("cpu")) is not torch.bfloat16, reason="this processor has no use for bfloat16"
)
@torch.no_grad()
@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("form", CONVOLUTIONS)
def test_bfloat16_changes_votes_unless_doubtful_ones_are_computed_again(form: Form) -> None:
    build, vote = form[0], form[1]()
    rounded = made(build, vote, torch.bfloat16)
    rounded.worth = 1
    rounded.prepare(*vote[2:])
    assert rounded.low is not None
    assert 0 < rounded.doubt < torch.inf
    assert torch.equal(rounded.votes(*vote[2:]), expected(vote))
    sums = rounded.sums(vote[2][:1], vote[3]).all()
    assert not torch.equal(rounded.exact(sums), rounded.low(sums))
