"""A defence of small images, trained in a second."""

import struct
from pathlib import Path

import pytest
import torch

from carso import CARSO
from carso.data import Dataset
from carso.nn import MLP
from carso.purifier import Purifier
from carso.training.reading import parse_recipe
from carso.training.recipe import Recipe

SHAPE = (1, 6, 6)


def write_idx(folder: Path, stem: str, images: torch.Tensor, labels: torch.Tensor) -> None:
    n, height, width = images.shape
    head = struct.pack(">IIII", 2051, n, height, width)
    (folder / f"{stem}-images-idx3-ubyte").write_bytes(head + images.numpy().tobytes())
    (folder / f"{stem}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, n) + labels.numpy().tobytes())


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images of three classes: bright on the left, on the right, or nowhere."""
    folder = tmp_path_factory.mktemp("digits")
    generator = torch.Generator().manual_seed(0)
    for stem, n in (("train", 240), ("t10k", 60)):
        labels = torch.arange(n) % 3
        images = torch.randint(60, (n, 6, 6), generator=generator)
        images[labels == 0, :, :3] += 150
        images[labels == 1, :, 3:] += 150
        write_idx(folder, stem, images.to(torch.uint8), labels.to(torch.uint8))
    return folder


@pytest.fixture(scope="session")
def recipe(digits: Path) -> Recipe:
    """Two trainings of a few epochs."""
    return parse_recipe(
        f"""
name: tiny
data: {digits}
samples: 30
classifier: {{hidden: [12, 8], dropout: 0.0}}
undefended: {{epochs: 1, batch: 60, rate: 0.02}}
adversarial: {{epochs: 8, batch: 60, rate: 0.02, attacks: [{{attack: fgsm, eps: 0.1}}]}}
purifier: {{latent: 3}}
purification:
  {{epochs: 8, batch: 24, rate: 0.03, shape: plateau, mixing: parts, attacks: [{{attack: fgsm, eps: 0.1}}]}}
""",
        "tiny",
    )


@pytest.fixture(scope="session")
def defence() -> CARSO:
    """A defence whose code decides its answers: four classes, 20 candidates."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier, purifier = (
            MLP(SHAPE, hidden=(12, 8), classes=4).eval(),
            Purifier(SHAPE, neurons=24, latent=3).eval(),
        )
        for parameter in (*classifier.parameters(), *purifier.parameters()):
            torch.nn.init.normal_(parameter) if parameter.ndim > 1 else None
        return CARSO(classifier, purifier, samples=20)


@pytest.fixture(scope="session")
def held_out() -> Dataset:
    """Images of noise, labelled by chance."""
    generator = torch.Generator().manual_seed(3)
    images, labels = torch.rand(40, *SHAPE, generator=generator), torch.randint(4, (40,), generator=generator)
    return Dataset("held out", images, labels, tuple("abcd"))
