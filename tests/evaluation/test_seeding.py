"""Streams of chance: ruled by a seed inside, untouched outside."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from carso.evaluation.seeding import generator_of, seeded
from carso.nn.chance import pinned


def draws() -> tuple[float, ...]:
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def test_one_seed_pins_every_global_generator() -> None:
    with pinned(3):
        first = draws()
    with pinned(3):
        again = draws()
    with pinned(4):
        other = draws()
    assert first == again
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_each_has_its_own_state_back() -> None:
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    with pinned(3):
        draws()
    after = torch.get_rng_state(), np.random.get_state(), random.getstate()
    assert torch.equal(before[0], after[0])
    assert str(before[1:]) == str(after[1:])


def test_torchs_streams_are_what_they_were() -> None:
    with seeded(7, "what", 0) as generator:
        assert generator.initial_seed() == generator_of(7, "what", 0, "attack").initial_seed()
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=generator_of(7, "what", 0, "target")))


def test_every_gpu_in_use_has_its_state_back(monkeypatch: pytest.MonkeyPatch) -> None:
    states: dict[int, Any] = {0: torch.tensor(10), 1: torch.tensor(11)}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda seed: states.update(dict.fromkeys(states, seed)))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.update({device: state}))
    with pinned(3):
        assert states == {0: 3, 1: 3}
    assert states == {0: 10, 1: 11}
