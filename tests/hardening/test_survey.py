import sys

import pytest
import torch

from carso import CARSO
from carso.data import Dataset
from carso.hardening.plan import Rates
from carso.hardening.survey import peak_memory, rates_of, recalling
from carso.nn import MLP
from carso.purifier import Purifier
from carso.training.recipe import PurifierSpec


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_everything_that_is_planned_with_takes_time(norm: str) -> None:
    classifier = MLP((1, 4, 4), (8,), 3).eval()
    defence = CARSO(classifier, Purifier((1, 4, 4), 11, 2).eval(), samples=5)
    dataset = Dataset("d", torch.rand(20, 1, 4, 4), torch.arange(20) % 3, ("a", "b", "c"))
    rates = rates_of(defence, dataset, 0.1, norm)
    assert all(0 < getattr(rates, name) < 10 for name in Rates.model_fields)


def test_the_memory_that_was_held_is_some() -> None:
    peak = peak_memory()
    assert (peak is None) == sys.platform.startswith("win")
    assert peak is None or 2**24 < peak < 2**42


def test_how_candidates_differ_by_design_is_said() -> None:
    assert recalling(PurifierSpec()) == ""
    ink = PurifierSpec(kind="corrective", contrast=0.3, shift=3)
    assert recalling(ink) == ", with contrast against changes of up to 0.3, seen from 3 pixels away"
    assert recalling(PurifierSpec(kind="corrective", flip=True)) == ", seen in a mirror"
