from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.evaluation import cost
from carso.vote import Stop, Tally

IMAGES = torch.rand(64, 1, 2, 2)


class Clock:
    """Votes of a defence that takes a second for every thousand candidates, and decides after `needs` of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, samples: int, needs: int) -> None:
        self.samples, self.needs, self.now, self.polls = samples, needs, 0.0, 0
        self.purifier = nn.Linear(1, 1)
        monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: self.now))

    def poll(self, images: Tensor, samples: int, stop: Stop | None, generator: torch.Generator) -> Tally:
        used = torch.full((len(images),), min(samples, self.needs))
        self.now += float(used.sum()) / 1000
        self.polls += 1
        return Tally(torch.zeros(len(images), 2).long(), used)


@pytest.mark.parametrize(
    ("samples", "needs", "expected"), [(1500, 20, 0.02), (1500, 1500, 1.5), (8, 1500, 0.008), (150, 1500, 0.15)]
)
def test_the_estimate_is_what_a_vote_takes(
    samples: int, needs: int, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    defence: Any = Clock(monkeypatch, samples, needs)
    assert cost.seconds_each(defence, IMAGES, samples) == pytest.approx(expected)
    assert defence.now < 2 * cost.TRIAL + 4 * cost.TRIAL


@pytest.mark.parametrize(("votes", "said"), [(1000, False), (10_000, True)])
def test_only_what_is_long_is_said(
    votes: int, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    defence: Any = Clock(monkeypatch, 1500, 20)
    cost.say_if_long(defence, IMAGES, votes)
    told = f"{votes:,} votes of up to 1,500 candidates take about 3 min 20 s"
    assert (told in capsys.readouterr().err) == said


def test_a_few_short_votes_are_not_taken_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (Clock(monkeypatch, 1500, 20) for _ in range(2))
    cost.say_if_long(few, IMAGES, 10)  # type: ignore[arg-type]
    assert few.polls == 1
    monkeypatch.setattr(cost, "time", SimpleNamespace(perf_counter=lambda: many.now))
    cost.say_if_long(many, IMAGES, 10_000)  # type: ignore[arg-type]
    assert many.polls > 1
