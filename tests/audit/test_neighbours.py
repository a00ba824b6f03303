import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from carso.audit import audit
from carso.audit.neighbours import Neighbours
from carso.data import Dataset


@given(st.integers(0, 1000), st.integers(2, 5))
def test_they_come_by_growing_distance_and_never_of_the_same_class(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(30, 2, 3, 3, generator=generator)
    labels = torch.arange(30) % classes
    neighbours = Neighbours(images, labels)
    assert len(neighbours) == 30 - int((labels == 0).sum())
    ranked = [neighbours.nearest(images[:4], labels[:4], rank) for rank in range(len(neighbours))]
    for row in range(4):
        others = images[labels != labels[row]]
        expected = others[(others - images[row]).flatten(1).norm(dim=1).argsort()]
        found = torch.stack([image[row] for image in ranked[: len(others)]])
        assert torch.equal(found, expected[: len(found)])


class Thresholds(nn.Module):
    """A classifier behind a filter that is flat where pixels are dark, as Linf training makes them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.where(images > 0.45, 0.0 * images))
        return logits


def test_what_noise_is_too_faint_to_find_is_found_from_a_neighbour(
    small: None, robust: nn.Module, dataset: Dataset
) -> None:
    (found,) = audit(Thresholds(robust), dataset, effort="quick", norm="L2", eps=(2.0,)).budgets
    noise, near = found.find("pgd-annealed"), found.find("pgd-annealed-neighbours")
    assert noise is not None
    assert near is not None
    assert near.result.correct == 0
    assert noise.result.correct > 2


def test_a_single_class_has_no_neighbours(small: None, plain: nn.Module, dataset: Dataset) -> None:
    same = dataset.required_labels == 3
    threes = Dataset("threes", dataset.images[same], dataset.required_labels[same], dataset.classes)
    found = audit(plain, threes, effort="quick")
    assert found.budgets[0].find("pgd-annealed-neighbours") is None
