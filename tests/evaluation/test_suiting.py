"""A table's data set has the classes of its columns, or is refused before any work."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from carso.attacks import ATTACKS
from carso.data.dataset import Dataset
from carso.errors import DataError, ModelError
from carso.evaluation import Row, Settings, evaluate
from carso.evaluation.models import Models, Outcome
from carso.evaluation.records import Records
from carso.types import Budget

CLEAN, PGD = Row("none"), Row("pgd", Budget("Linf", 0.2), options={"steps": 3})
FEW = Settings(curve_images=0, sweep_images=0)


def named(dataset: Dataset, classes: tuple[str, ...]) -> Dataset:
    return Dataset(dataset.name, dataset.images, dataset.labels, classes)


def test_classes_are_matched_by_their_names(columns: Models, dataset: Dataset) -> None:
    whole = evaluate(columns, dataset, (CLEAN, PGD), FEW)
    columns["carso"].class_names = tuple("dcab")  # type: ignore[union-attr]
    found = evaluate(columns, dataset, (CLEAN, PGD), FEW)
    assert found.classes == list("dcab")
    assert found.labels.tolist() == [(2, 3, 1, 0)[label] for label in dataset.required_labels]
    predicted = found.rows[CLEAN.key].outcomes["undefended"].predicted
    assert torch.equal(predicted, whole.rows[CLEAN.key].outcomes["undefended"].predicted)
    right = sum("dcab"[p] == "abcd"[y] for p, y in zip(predicted, dataset.required_labels, strict=True))
    assert found.rate_of(predicted).correct == right


def test_a_part_of_the_classes_keeps_their_numbers(columns: Models, dataset: Dataset) -> None:
    whole, numbers = evaluate(columns, named(dataset, tuple("0123")), (CLEAN,), FEW), dataset.required_labels
    few = numbers >= 2
    part = Dataset("part", dataset.images[few], numbers[few] - 2, ("2", "3"))
    found = evaluate(columns, part, (CLEAN,), FEW)
    assert found.classes == list("0123")
    for name, outcome in whole.rows[CLEAN.key].outcomes.items():
        right = (outcome.predicted == numbers)[few].sum()
        assert found.rate(found.rows[CLEAN.key].outcomes[name]).correct == right


def test_further_classes_of_a_column_have_names_and_places(columns: Models, dataset: Dataset) -> None:
    bare = columns["undefended"]
    assert isinstance(bare, nn.Module)
    wide = {"wide": lambda images: torch.cat([bare(images), 9 + 0 * bare(images)[:, :2]], dim=1), **columns}
    found = evaluate(wide, dataset, (CLEAN, PGD), FEW)
    assert found.classes == ["a", "b", "c", "d", "4", "5"]
    table = found.confusion(found.rows[CLEAN.key].outcomes["wide"])
    assert table.shape == (6, 6)
    assert table[:, 4].tolist() == [*torch.bincount(dataset.required_labels, minlength=4).tolist(), 0, 0]
    assert table.sum() == len(dataset)


def test_answers_beyond_the_classes_have_columns_of_their_own(columns: Models, dataset: Dataset) -> None:
    records = evaluate(columns, dataset, (CLEAN,), FEW)
    table = records.confusion(Outcome(predicted=(dataset.required_labels + 3).int()))
    assert table.shape == (4, 7)
    assert torch.equal(table[:, 3:].diagonal(), torch.bincount(dataset.required_labels, minlength=4))
    assert table.sum() == len(dataset)


@pytest.mark.parametrize(
    ("classes", "message"), [(tuple("abcde"), "has 5 classes"), (tuple("01234"), "has the label 4, the model knows")]
)
def test_classes_that_cannot_fit_are_refused_before_the_work(
    columns: Models, dataset: Dataset, classes: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ATTACKS, "pgd", lambda *_, **__: pytest.fail("the attack began"))
    labels = dataset.required_labels.clone()
    labels[0] = 4
    with pytest.raises(DataError, match=message):
        evaluate(columns, Dataset("noise", dataset.images, labels, classes), (PGD,), FEW)


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        (lambda images: images.flatten(1)[:, :3], DataError, "noise, for odd: label 3"),
        (lambda images: images.flatten(1)[:, :1], ModelError, r"must return scores of shape \(1, classes >= 2\)"),
        (lambda images: images.flatten(1)[:, :4] * torch.nan, ModelError, "NaN"),
    ],
)
def test_a_column_that_does_not_suit_is_found_before_the_work(
    columns: Models, dataset: Dataset, column: Callable[[Tensor], Tensor], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluate({"odd": column, **columns}, dataset, (PGD,), FEW)


def test_images_of_another_shape_are_refused(columns: Models, dataset: Dataset) -> None:
    wrong = Dataset("wrong", dataset.images[:, :, :5, :5], dataset.labels, dataset.classes)
    with pytest.raises(DataError, match=r"wrong: its images are \(1, 5, 5\), the defence takes \(1, 6, 6\)"):
        evaluate(columns, wrong, (CLEAN,), FEW)


def test_a_column_that_writes_spoils_nobodys_images(columns: Models, dataset: Dataset) -> None:
    before, bare = dataset.images.clone(), columns["undefended"]
    assert isinstance(bare, nn.Module)

    def writing(images: Tensor) -> Tensor:
        logits: Tensor = bare(images.copy_((2 * images).round() / 2))
        return logits

    def copying(images: Tensor) -> Tensor:
        return writing(images.clone())

    square = Row("square", Budget("Linf", 0.2), options={"queries": 10})
    found, expected = (
        evaluate({"ours": column, **columns}, dataset, (CLEAN, square), FEW) for column in (writing, copying)
    )
    assert torch.equal(dataset.images, before)
    assert answers(found) == answers(expected)


def answers(records: Records) -> dict[tuple[str, str], list[int]]:
    return {
        (key, name): outcome.predicted.tolist()
        for key, record in records.rows.items()
        for name, outcome in record.outcomes.items()
    }


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
def test_the_seed_rules_a_random_column(columns: Models, dataset: Dataset, source: str) -> None:
    bare = columns["undefended"]
    assert isinstance(bare, nn.Module)
    noisy = {"noisy": lambda images: bare(images + noise(source, images)), **columns}
    alone = evaluate(noisy, dataset, (PGD,), FEW)
    again = evaluate(noisy, dataset, (CLEAN, PGD), FEW)
    other = evaluate(noisy, dataset, (PGD,), Settings(seed=1, curve_images=0, sweep_images=0))
    assert answers(alone)[PGD.key, "noisy"] == answers(again)[PGD.key, "noisy"] != answers(other)[PGD.key, "noisy"]


def noise(source: str, images: Tensor) -> Tensor:
    draws = {
        "torch": lambda: torch.randn_like(images),
        "numpy": lambda: torch.from_numpy(np.random.standard_normal(tuple(images.shape))).float(),
        "python": lambda: torch.tensor([random.gauss(0, 1) for _ in range(images.numel())]).view_as(images),
    }
    return draws[source]()
