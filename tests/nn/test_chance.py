import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from carso.nn.chance import home, pinned, rewind, shared_states, signs, sown

META, CPU = torch.device("meta"), torch.device("cpu")


def test_draws_are_made_where_the_generator_lives() -> None:
    assert home(None, META) == META
    assert home(torch.Generator(), META) == CPU


def test_signs_are_the_generators_bits() -> None:
    drawn = signs((3, 5), torch.zeros(2, dtype=torch.float64), torch.Generator().manual_seed(4))
    bits = torch.randint(2, (3, 5), generator=torch.Generator().manual_seed(4))
    assert drawn.dtype == torch.float64
    assert drawn.tolist() == [[1.0 if bit else -1.0 for bit in row] for row in bits.tolist()]
    assert signs((2,), torch.zeros(2, device=META), torch.Generator()).device == META


TOSSES = [lambda: torch.rand(()).item(), lambda: float(np.random.randn()), random.random]


@pytest.mark.parametrize("toss", TOSSES)
def test_pinned_chance_is_the_seeds_and_leaves_no_trace(toss: Callable[[], float]) -> None:
    torch_state, states = torch.get_rng_state(), shared_states()
    with pinned(7):
        first = toss()
    with pinned(7):
        assert toss() == first
    with pytest.raises(ZeroDivisionError), pinned(7):
        toss() / 0
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert shared_states() == states
    assert toss() != first


@pytest.mark.parametrize("toss", TOSSES[1:])
def test_who_tosses_what_all_threads_share_is_seen_and_rewound(toss: Callable[[], float]) -> None:
    before = shared_states()
    first = toss()
    assert shared_states() != before
    rewind(before)
    assert shared_states() == before
    assert toss() == first


def test_seeds_are_sown_for_a_while() -> None:
    before = torch.get_rng_state()
    with sown(5):
        drawn = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn, torch.rand(2, generator=torch.Generator().manual_seed(5)))


def test_a_gpu_that_is_not_in_use_is_not_seeded_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with sown(5):
        torch.rand(2)
    assert seeds == []
