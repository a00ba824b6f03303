import random
from collections.abc import Callable

import numpy as np
import pytest
import torch

from carso.nn.chance import home, kept_chance, signs, sown

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


@pytest.mark.parametrize("toss", [lambda: torch.rand(()).item(), lambda: float(np.random.randn()), random.random])
def test_who_tosses_is_told_of_and_leaves_no_trace(toss: Callable[[], float]) -> None:
    with kept_chance() as moved:
        assert not moved()
        first = toss()
        assert moved()
    with pytest.raises(ZeroDivisionError), kept_chance():
        toss() / 0
    assert toss() == first


def test_seeds_are_sown_for_a_while() -> None:
    with kept_chance() as moved:
        with sown(5):
            drawn = torch.rand(2)
        assert not moved()
    assert torch.equal(drawn, torch.rand(2, generator=torch.Generator().manual_seed(5)))


def test_a_gpu_that_is_not_in_use_is_not_seeded_for_later(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with sown(5):
        torch.rand(2)
    assert seeds == []
