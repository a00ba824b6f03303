import random
from typing import Any

import numpy as np
import torch

from carso.evaluation.seeding import pinned

CPU = torch.device("cpu")


def draws() -> tuple[Any, ...]:
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_a_seed_rules_every_generator_and_each_gets_its_state_back() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    undisturbed = draws(), draws()
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    found = [draws()]
    with pinned(CPU, 3):
        once = draws()
    with pinned(CPU, 3):
        assert draws() == once
    assert (*found, draws()) == undisturbed
