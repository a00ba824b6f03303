from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.attacks.conftest import switched_by
from torch import nn

from carso.attacks import annealed
from carso.attacks.ball import foremost
from carso.types import Budget

NEEDED = 4
switched = switched_by(NEEDED)


def test_few_large_changes_reach_what_many_small_ones_do_not() -> None:
    dark, labels = torch.zeros(3, 1, 10, 10), torch.zeros(3, dtype=torch.long)
    within, short = (Budget("L2", factor * NEEDED**0.5 / 2) for factor in (1.02, 0.98))
    generator = torch.Generator().manual_seed(0)
    for budget, share, fooled in ((within, 0.04, True), (short, 0.04, False), (within, 1.0, False)):
        found = annealed(switched, dark, labels, budget, steps=50, start=dark, share=share, generator=generator)
        assert bool((switched(found).argmax(1) == 1).all()) == fooled
        assert (found - dark).flatten(1).norm(dim=1).max() <= budget.eps + 1e-6


@given(st.integers(0, 1000), st.floats(0.01, 1.0))
def test_the_foremost_components_are_the_largest(seed: int, share: float) -> None:
    gradient = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(seed))
    kept = foremost(gradient, share)
    count = max(1, round(share * 60))
    for full, some in zip(gradient.flatten(1), kept.flatten(1), strict=True):
        assert int((some != 0).sum()) == count
        assert torch.equal(some[some != 0], full[some != 0])
        assert some[some != 0].abs().min() >= full[some == 0].abs().max() if count < 60 else torch.equal(some, full)


@pytest.mark.parametrize("share", [0.0, -0.1, 1.5])
def test_a_share_that_is_none_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]"):
        annealed(switched, torch.zeros(1, 1, 10, 10), torch.zeros(1, dtype=torch.long), Budget("L2", 1.0), share=share)


@pytest.mark.parametrize(("options", "moved"), [({}, 2), ({"share": 0.01}, 1), ({"share": 0.1}, 10)])
def test_in_l1_a_step_moves_the_share_that_is_asked_for(options: dict[str, float], moved: int) -> None:
    torch.manual_seed(0)
    model, grey = nn.Sequential(nn.Flatten(), nn.Linear(100, 2)), torch.full((3, 1, 10, 10), 0.5)
    labels = model(grey).argmax(1)
    found = annealed(model, grey, labels, Budget("L1", 0.5), steps=1, start=grey, **options)
    assert (found != grey).flatten(1).sum(1).tolist() == [moved] * 3
