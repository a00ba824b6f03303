"""A study of images that a test can learn in a second: three classes, bright on the left, on the right, or nowhere."""

from __future__ import annotations

import pytest
import torch
from tests.ablations.conftest import write_idx
from tests.efforts import shorten

from carso import CARSO
from carso.comparison import Comparison, ComparisonStudy, Study
from carso.nn import MLP
from carso.purifier import Purifier
from carso.training.studies import parsed

SHAPE, CLASSES = (1, 6, 6), 3

STUDY = """
data: {data}
images: 30
effort: quick
eps: [0.1, 0.2]
unforeseen: {{norm: L2, eps: 0.5, images: 6, effort: quick}}
network: {{hidden: [12], dropout: 0.0}}
entries:
  bare: {{about: N alone., target: "tests.comparison.conftest:network"}}
  schooled: {{about: A recipe., recipe: {recipe}}}
  trades:
    about: TRADES.
    rival: {{kind: classifier}}
    training: [{{epochs: 3, batch: 60, rate: 0.02, trades: 2, attacks: [{{attack: pgd, eps: 0.1, steps: 2}}]}}]
  gan:
    about: A generator.
    rival: {{kind: defense-gan, options: {{latent: 3, hidden: [8, 12], steps: 2, restarts: 2, refinements: 1}}}}
    classifier: "tests.comparison.conftest:network"
    training: [{{epochs: 2, batch: 60, rate: 0.01}}, {{epochs: 2, batch: 60, rate: 0.01}}]
    images: 8
    published: [{{says: 55 % left, source: "Them, 2018", differs: other images}}]
  gan-other:
    about: The same before another.
    rival: {{kind: defense-gan, options: {{latent: 3, hidden: [8, 12], steps: 2, restarts: 2, refinements: 1}}}}
    classifier: "tests.comparison.conftest:other"
    weights_of: gan
    images: 8
  noisy: {{about: FiWAGR., target: "tests.comparison.conftest:defence", randomised: [representation], images: 8}}
"""

RECIPE = """
name: schooled
data: {data}
classifier: {{hidden: [12], dropout: 0.0}}
adversarial: {{epochs: 2, batch: 60, rate: 0.02, attacks: [{{attack: fgsm, eps: 0.1}}]}}
"""


def picture(labels: torch.Tensor, seed: int) -> torch.Tensor:
    """Bytes (n, 6, 6)."""
    images = torch.randint(60, (len(labels), 6, 6), generator=torch.Generator().manual_seed(seed))
    images[labels == 0, :, :3] += 150
    images[labels == 1, :, 3:] += 150
    return images.to(torch.uint8)


def network(seed: int = 0) -> MLP:
    """An N that knows the three classes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        labels = torch.arange(300) % CLASSES
        images = picture(labels, 1).unsqueeze(1) / 255
        model = MLP(SHAPE, (12,), CLASSES, dropout=0.0)
        optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(40):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimiser.step()
    return model.eval()


def other() -> MLP:
    """Another N."""
    return network(1)


def defence() -> CARSO:
    """N behind a purifier of its first weights, which classifies by the code of nothing."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        classifier = network()
        return CARSO(classifier, Purifier(SHAPE, neurons=15, latent=3).eval(), samples=10)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """All kinds of entries."""
    folder = tmp_path_factory.mktemp("digits")
    for stem, count, seed in (("train", 300, 3), ("t10k", 60, 4)):
        labels = torch.arange(count) % CLASSES
        write_idx(folder, stem, picture(labels, seed), labels.to(torch.uint8))
    recipe = folder / "schooled.yaml"
    recipe.write_text(RECIPE.format(data=folder))
    return parsed(STUDY.format(data=folder, recipe=recipe), Study)


@pytest.fixture(autouse=True)
def small_audits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audits of the size of a test."""
    shorten(monkeypatch, "quick")


@pytest.fixture(scope="session")
def run(study: Study, tmp_path_factory: pytest.TempPathFactory) -> ComparisonStudy:
    """The study and its folder."""
    return ComparisonStudy(study, tmp_path_factory.mktemp("rivals"), torch.device("cpu"), command="carso ...")


@pytest.fixture(scope="session")
def found(run: ComparisonStudy) -> Comparison:
    """What came of all."""
    with pytest.MonkeyPatch.context() as patch:
        shorten(patch, "quick")
        return run.carry_out()
