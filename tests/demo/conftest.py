import pytest
import torch

from carso import data
from carso.data import Dataset
from carso.defence import CARSO
from carso.demo.studio import Studio
from carso.nn import MLP
from carso.purifier import Purifier


@pytest.fixture(scope="session")
def studio() -> Studio:
    torch.manual_seed(0)
    test = data.load("mnist", "test")
    few = Dataset("mnist", test.images[:20], test.labels[:20], test.classes)
    defence = CARSO(MLP((1, 28, 28), (30,)).eval(), Purifier((1, 28, 28), 40, latent=4), samples=60)
    return Studio(defence, MLP((1, 28, 28), (20,)).eval(), few)
