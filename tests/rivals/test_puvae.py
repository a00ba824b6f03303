from __future__ import annotations

import pytest
import torch
from tests.rivals.conftest import CLASSES, CPU, SHAPE, accuracy, bars, dataset, schedule
from torch import Tensor, nn

from carso.data import Dataset
from carso.errors import DataError
from carso.rivals import ConditionalVAE, PuVAE, PuVAEStage
from carso.rivals.puvae import distances
from carso.training.loop import Stage, beginning, fit

GREYS = torch.tensor([0.1, 0.5, 0.9])


class Greys(ConditionalVAE):
    """A VAE each of whose classes is one shade of grey, whatever the image."""

    def encode(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros(len(images), 1), torch.zeros(len(images), 1)

    def decode(self, latents: Tensor, labels: Tensor) -> Tensor:
        return GREYS[labels].view(-1, 1, 1, 1).repeat(1, 1, 2, 2)


class Brightness(nn.Module):
    """Logits by how near the mean is to each grey."""

    def forward(self, images: Tensor) -> Tensor:
        return -10 * (images.mean((1, 2, 3)).unsqueeze(1) - GREYS).abs()


def constructed() -> PuVAE:
    return PuVAE(Brightness(), Greys((1, 2, 2), 3))


def test_every_class_is_tried_and_the_nearest_reconstruction_wins() -> None:
    images = torch.tensor([0.0, 0.29, 0.31, 0.69, 0.71, 1.0]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    rival = constructed()
    assert rival.projections(images).shape == (6, 3, 1, 2, 2)
    purified = rival.purify(images)
    nearest = torch.tensor([0.1, 0.1, 0.5, 0.5, 0.9, 0.9])
    assert torch.equal(purified, nearest.view(-1, 1, 1, 1).expand_as(purified))
    assert rival(images).argmax(1).tolist() == [0, 0, 1, 1, 2, 2]


def test_distances_are_squared_and_summed_over_the_pixels() -> None:
    images = torch.full((1, 1, 2, 2), 0.3)
    found = distances(images, constructed().projections(images))
    assert torch.allclose(found, 4 * (0.3 - GREYS).square().unsqueeze(0))


def test_the_surrogate_is_the_mixture_over_the_classes() -> None:
    images = torch.full((1, 1, 2, 2), 0.45)
    weights = (-2 * (0.45 - GREYS).square()).softmax(0)
    answers = Brightness()(GREYS.view(-1, 1, 1, 1)).softmax(1)
    assert torch.allclose(constructed().surrogate(images).exp(), (weights @ answers).unsqueeze(0), atol=1e-6)


def test_the_surrogate_sees_that_another_class_is_near() -> None:
    """Between two jumps of the argmin the answer is constant; the mixture has a slope towards the nearer class."""
    images = torch.full((1, 1, 2, 2), 0.45, requires_grad=True)
    assert not constructed()(images).requires_grad
    (slope,) = torch.autograd.grad(constructed().surrogate(images)[0, 2], images)
    assert (slope > 0).all()


@pytest.fixture(scope="module")
def trained(classifier: nn.Module) -> PuVAE:
    with beginning(0, "vae"):
        rival = PuVAE(classifier, ConditionalVAE(SHAPE, CLASSES, latent=4, hidden=(64,)))
    stage = PuVAEStage(rival, schedule(), dataset(), dataset(64, 3), CPU)
    assert isinstance(stage, Stage)
    history = fit(stage, 0, "f")
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]
    return rival


def test_trained_it_answers_by_the_class_it_reconstructs(trained: PuVAE) -> None:
    assert accuracy(trained) > 0.95
    images, labels = bars(64, 4)
    assert (distances(images, trained.projections(images)).argmin(1) == labels).float().mean() > 0.95


def test_the_classifier_is_left_as_it_was(trained: PuVAE, classifier: nn.Module) -> None:
    assert trained.classifier is classifier
    assert accuracy(classifier) > 0.95


def test_images_without_labels_are_refused(classifier: nn.Module) -> None:
    rival, images = PuVAE(classifier, ConditionalVAE(SHAPE, CLASSES)), bars(8, 0)[0]
    with pytest.raises(DataError, match="labels"):
        PuVAEStage(rival, schedule(), Dataset("bars", images), dataset(8), CPU)
