from collections.abc import Sequence

import pytest
import torch

from carso.defence import CARSO
from carso.nn import MLP
from carso.purifier import Purifier
from carso.serve.answering import Answer
from carso.types import Images

NAMES = ("ant", "bee", "cat", "dog", "elk")


@pytest.fixture(scope="session")
def defence() -> CARSO:
    torch.manual_seed(0)
    made = CARSO(MLP((1, 8, 8), (12,), 5).eval(), Purifier((1, 8, 8), 17, latent=4), samples=40)
    made.class_names = NAMES
    return made


class Echo:
    """Says of an image that its class is its first pixel, in fifths; keeps the batches that it saw."""

    name, engine, shape, samples, digits = "echo", "none", (1, 2, 2), 10, False
    names: Sequence[str] = NAMES

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, images: Images) -> list[Answer]:
        self.batches.append(len(images))
        found = (images[:, 0, 0, 0] * 5).floor().clamp(max=4).long().tolist()
        return [Answer(label, [float(k == label) for k in range(5)], 10, alone=0) for label in found]


@pytest.fixture
def echo() -> Echo:
    return Echo()
