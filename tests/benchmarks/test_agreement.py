from typing import Any

import pytest
import torch
from benchmarks.speed.agreement import agreement

import carso
from carso import data
from carso.defence import CARSO
from carso.evaluation.interval import wilson
from carso.vote import Tally


def test_other_answers_of_the_confident_stop_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def poll(self: CARSO, images: torch.Tensor, stop: str, **_: Any) -> Tally:
        full = torch.tensor([7, 3]).expand(len(images), 2).clone()
        if stop == "confident":
            full[0] = torch.tensor([3, 7])
        return Tally(full, torch.full((len(images),), 10))

    monkeypatch.setattr(CARSO, "poll", poll)
    found = agreement(carso.load("mnist-thesis"), data.load("mnist", "validation")[:5])
    rows = found["rows"]
    assert isinstance(rows, list)
    assert [(row["n"], row["otherwise"], row["samples"]) for row in rows] == [(5, 1, 10.0)] * 10
    assert (found["n"], found["otherwise"], found["percent"]) == (50, 10, pytest.approx(20))
    assert (found["low"], found["high"]) == wilson(10, 50)
