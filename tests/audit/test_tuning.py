"""The cheapest setting that nothing beats by more than half a point."""

import pytest
import torch

from carso.audit.tuning import percent, settled


@pytest.mark.parametrize(
    ("left", "setting"),
    [
        ({1: 50.0, 4: 49.6, 16: 49.4}, 4),
        ({1: 50.0, 4: 49.5}, 1),
        ({50: 40.0, 100: 30.0, 200: 20.0}, 200),
        ({16: 10.0, 1: 10.0, 4: 9.9}, 1),
        ({4: 3.0}, 4),
    ],
)
def test_the_least_setting_that_is_hardly_beaten_is_taken(left: dict[int, float], setting: int) -> None:
    assert settled(left) == setting


def test_a_share_is_in_percent() -> None:
    assert percent(torch.tensor([True, False, False, True, True])) == 60
