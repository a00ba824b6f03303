from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import carso.audit.neighbours
from carso.audit import audit
from carso.audit.checks import Evidence, make
from carso.audit.effort import SIZES
from carso.audit.neighbours import Neighbours
from carso.audit.plan import Tuning, plan
from carso.audit.target import target_of
from carso.data import Dataset
from carso.errors import RunError
from carso.types import Budget

pytestmark = pytest.mark.whole

NAME = "pgd-annealed-neighbours"


@given(st.integers(0, 1000), st.integers(2, 5))
def test_they_come_by_growing_distance_and_never_of_the_same_class(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(30, 2, 3, 3, generator=generator)
    labels = torch.arange(30) % classes
    neighbours = Neighbours(images, labels)
    assert neighbours.ranks == 30 - int((labels == 0).sum())
    ranked = torch.stack([neighbours.nearest(images[:4], labels[:4], rank) for rank in range(neighbours.ranks)], dim=1)
    for row in range(4):
        others = images[labels != labels[row]]
        distances = (others - images[row]).flatten(1).norm(dim=1).sort().values[: neighbours.ranks]
        torch.testing.assert_close((ranked[row] - images[row]).flatten(1).norm(dim=1), distances)
        assert all((others == image).flatten(1).all(1).any() for image in ranked[row])


def test_many_images_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carso.audit.neighbours, "MOST", 10)
    labels = torch.arange(25) // 13
    neighbours = Neighbours(torch.rand(25, 1, 2, 2), labels)
    assert torch.equal(neighbours.labels, labels[::3])
    assert neighbours.ranks == 4


def test_each_run_begins_at_the_next_neighbour(plain: nn.Module, dataset: Dataset) -> None:
    images, labels, eps = dataset.images[:5], dataset.required_labels[:5], 0.1
    neighbours, starts = Neighbours(dataset.images, dataset.required_labels), []

    def recording(images: Tensor) -> Tensor:
        starts.append(images.detach().clone())
        return plain(images)

    target, sizes = target_of(plain, images), SIZES["quick"]
    target = replace(target, candidates=lambda images, samples: recording(images).unsqueeze(1))
    attempts = plan(target, Budget("Linf", eps), sizes, Tuning(steps=1), {}, neighbours, blind=False)
    (attempt,) = (attempt for attempt in attempts if attempt.name == NAME)
    assert len(attempt.rounds) == sizes.neighbours[1]
    assert attempt.options["among"] == len(dataset.images)
    for rank in (0, 3):
        starts.clear()
        attempt.rounds[rank](images, labels, torch.Generator())
        near = neighbours.nearest(images, labels, rank)
        expected = near.clamp((images - eps).clamp_min(0), (images + eps).clamp_max(1))
        assert any(start.shape == expected.shape and torch.allclose(start, expected) for start in starts)


class Thresholds(nn.Module):
    """A classifier behind a filter that is flat where pixels are dark, as Linf training makes them."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images.where(images > 0.48, 0.0 * images))
        return logits


def test_what_noise_is_too_faint_to_find_is_found_from_a_neighbour(
    small: None, robust: nn.Module, dataset: Dataset
) -> None:
    (found,) = audit(Thresholds(robust), dataset, effort="quick", norm="L2", eps=(2.0,)).budgets
    noise, near = found.find("pgd-annealed"), found.find(NAME)
    assert noise is not None
    assert near is not None
    assert near.result.correct == 0
    assert noise.result.correct > 2


def test_fewer_neighbours_are_fewer_runs(small: None, plain: nn.Module, dataset: Dataset) -> None:
    labels = dataset.required_labels
    few = torch.cat([(labels == 3).nonzero().squeeze(1), (labels == 4).nonzero().squeeze(1)[:1]])
    found = audit(plain, Dataset("few", dataset.images[few], labels[few], dataset.classes), effort="quick").budgets[0]
    attack = found.find(NAME)
    assert attack is not None
    assert len(attack.gains) == 1
    threes = few[labels[few] == 3]
    alone = Dataset("threes", dataset.images[threes], labels[threes], dataset.classes)
    assert audit(plain, alone, effort="quick").budgets[0].find(NAME) is None


def test_gains_late_in_its_runs_are_doubted(small: None, plain: nn.Module, dataset: Dataset) -> None:
    found = audit(plain, dataset, effort="quick", eps=(0.1,)).budgets[0]
    attack = found.find(NAME)
    assert attack is not None
    attack.gains = [5.0, 3.0, 1.5, 1.0]
    (check,) = [c for c in make(Evidence([found], random=False, averaged=True)) if "restarts" in c.name]
    assert check.raised
    assert check.value == pytest.approx(2.5)


def test_an_audit_among_other_images_is_another(
    small: None, plain: nn.Module, dataset: Dataset, tmp_path: Path
) -> None:
    audit(plain, dataset, effort="quick", n=30, eps=(0.1,), out=tmp_path)
    half = Dataset("blobs", dataset.images[:30], dataset.required_labels[:30], dataset.classes)
    with pytest.raises(RunError, match="another"):
        audit(plain, half, effort="quick", n=30, eps=(0.1,), out=tmp_path)
