"""Small networks and images that evaluate in milliseconds."""

from collections.abc import Iterator

import pytest
import torch

from carso import CARSO
from carso.data.dataset import Dataset
from carso.evaluation.models import Models
from carso.nn import MLP
from carso.purifier import Purifier

SHAPE = (1, 6, 6)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only lose by sharing the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def columns() -> Iterator[Models]:
    """An undefended classifier, N, and CARSO around N: 4 classes, 60 samples at most."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        bare, n = (MLP(SHAPE, hidden=(12, 8), classes=4).eval() for _ in range(2))
        purifier = Purifier(SHAPE, neurons=24, latent=3)
        yield {"undefended": bare, "adversarially_trained": n, "carso": CARSO(n, purifier, samples=60)}


@pytest.fixture
def dataset() -> Dataset:
    """Fifty labelled images of noise."""
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(50, *SHAPE, generator=generator)
    labels = torch.randint(4, (50,), generator=generator)
    return Dataset("noise", images, labels, tuple("abcd"))
