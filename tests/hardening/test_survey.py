import pytest
import torch
from torch import Tensor, nn

from carso import CARSO
from carso.data import Dataset
from carso.hardening.plan import Rates
from carso.hardening.survey import answers_of, labelled, peak_memory, rates_of
from carso.nn import MLP
from carso.purifier import Purifier


class Brightest(nn.Module):
    """The brightest of four pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


IMAGES = torch.rand(150, 1, 2, 2, generator=torch.Generator().manual_seed(0))
BRIGHTEST = IMAGES.flatten(1).argmax(1)


def test_the_answers_of_a_classifier_are_those_of_each_image() -> None:
    assert torch.equal(answers_of(Brightest(), Dataset("d", IMAGES)), BRIGHTEST)


def test_images_without_labels_get_those_of_the_classifier() -> None:
    found = labelled(Dataset("d", IMAGES), Brightest())
    assert torch.equal(found.required_labels, BRIGHTEST)
    assert found.classes == ("0", "1", "2", "3")


def test_labels_that_are_there_stay() -> None:
    dataset = Dataset("d", IMAGES, torch.zeros(150, dtype=torch.long), ("a", "b"))
    assert labelled(dataset, Brightest()) is dataset


@pytest.mark.parametrize("norm", ["Linf", "L2"])
def test_everything_that_is_planned_with_takes_time(norm: str) -> None:
    classifier = MLP((1, 4, 4), (8,), 3).eval()
    defence = CARSO(classifier, Purifier((1, 4, 4), 11, 2).eval(), samples=5)
    dataset = Dataset("d", torch.rand(20, 1, 4, 4), torch.arange(20) % 3, ("a", "b", "c"))
    rates = rates_of(defence, dataset, 0.1, norm)
    assert all(0 < getattr(rates, name) < 10 for name in Rates.model_fields)


def test_the_memory_that_was_held_is_some() -> None:
    peak = peak_memory()
    assert peak is None or 2**24 < peak < 2**42
