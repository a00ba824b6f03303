"""A breach stands by the last votes alone where answers vary, and always where they do not."""

from __future__ import annotations

import pytest
import torch

from carso.audit.plan import Attempt
from carso.audit.state import State
from carso.types import Budget


@pytest.mark.parametrize(
    ("k", "seen", "final", "stands"),
    [(10, 0, 5, False), (10, 0, 6, True), (10, 5, 6, True), (10, 5, 0, False), (1, 0, 0, False), (1, 0, 1, False)],
)
def test_a_breach_is_refuted_by_last_votes_of_a_random_target(k: int, seen: int, final: int, stands: bool) -> None:
    images = torch.zeros(2, 1, 2, 2)
    state = State.open(Budget("Linf", 0.1), k, torch.full((2,), k), images)
    attempt = Attempt("pgd", "white-box", "all", ())
    state.note(attempt, torch.tensor([0]), images[:1], torch.tensor([seen]))
    assert state.standing().tolist() == [False, True]
    state.final = torch.tensor([final, k])
    assert state.standing().tolist() == [stands, True]
