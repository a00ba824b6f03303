"""Records are read back as they were written, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from carso.data.dataset import Dataset
from carso.errors import RunError
from carso.evaluation import Row, Settings, evaluate, read_records
from carso.evaluation.models import Models
from carso.evaluation.records import FILE
from carso.storage.tensors import read_tensors, write_tensors
from carso.types import Budget

FGSM = Row("fgsm", Budget("Linf", 0.2))
WHERE = rf"rows\.{FGSM.key}"
PREDICTED, COUNTS = (f"rows/{FGSM.key}/outcomes/carso/{part}" for part in ("predicted", "counts"))
CLEAN, RECALLED = (f"rows/{FGSM.key}/gallery/{part}" for part in ("clean", "recalled"))

Spoil = Callable[[dict[str, Tensor], dict[str, Any]], object]


@pytest.fixture
def folder(columns: Models, dataset: Dataset, tmp_path: Path) -> Path:
    settings = Settings(n=10, curve_images=0, sweep_images=5)
    evaluate(columns, dataset, (FGSM,), settings, directory=tmp_path, sweep_rows=(FGSM,))
    return tmp_path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, _: t.pop("labels"), "labels: .* lacks the tensor 'labels'"),
        (lambda t, _: t.pop(COUNTS), rf"{WHERE}\.outcomes\.carso\.counts: .* lacks the tensor"),
        (lambda t, _: t.update({COUNTS: t[COUNTS][0]}), "must have 2 dimensions, not the shape"),
        (lambda t, _: t.update({COUNTS: t[COUNTS][:3]}), "differ in length: {'predicted': 10, 'counts': 3"),
        (lambda t, _: t.update({PREDICTED: -t[PREDICTED] - 1}), "must lie between 0 and"),
        (lambda t, _: t.update({CLEAN: t[CLEAN].double()}), "must be torch.float32, not torch.float64"),
        (lambda t, _: t.update({CLEAN: t[CLEAN] + 1}), "must lie between 0 and 1"),
        (lambda t, _: t.update({RECALLED: t[RECALLED].float()}), "must be torch.uint8, not torch.float32"),
        (lambda t, _: t.update(labels=t["labels"] + 4), "a label is not one of the classes"),
        (lambda t, _: t.update(labels=t["labels"][:7]), "a row is of more images than there are labels"),
        (lambda _, a: a.pop("seed"), "seed: Field required"),
        (lambda _, a: a.update(seed="3"), "seed: Input should be a valid integer, not '3'"),
        (lambda _, a: a.update(seed=True), "seed: Input should be a valid integer, not True"),
        (lambda _, a: a["rows"][FGSM.key]["row"].update(eot="3"), rf"{WHERE}\.row\.eot: .*, not '3'"),
        (lambda _, a: a["rows"][FGSM.key]["row"]["budget"].update(norm="L7"), r"budget\.Budget\.norm: .*, not 'L7'"),
        (lambda _, a: a["rows"][FGSM.key].update(seconds=float("inf")), rf"{WHERE}\.seconds: .* finite number"),
        (lambda _, a: a["rows"][FGSM.key]["gallery"].update(column="y"), "its gallery is of a column that it lacks"),
        (lambda _, a: a["rows"][FGSM.key].update(outcomes={}), "is of no image"),
        (lambda _, a: a.update(labels=[1, 2]), "labels: .*must be a tensor"),
    ],
)
def test_damage_is_named_with_what_to_do(spoil: Spoil, message: str, folder: Path) -> None:
    tensors, about = read_tensors(folder / FILE, "evaluation")
    spoil(tensors, about["records"])
    write_tensors(folder / FILE, tensors, about)
    with pytest.raises(RunError, match=rf"{FILE}: .*{message}.*; delete it and evaluate again$") as error:
        read_records(folder)
    assert len(str(error.value)) < 500


def test_another_kind_of_file(folder: Path) -> None:
    write_tensors(folder / FILE, {}, {"kind": "purifier"})
    with pytest.raises(RunError, match="is of the kind purifier, not evaluation; delete it and evaluate again"):
        read_records(folder)


def test_a_damaged_file_is_not_gone_on_from(folder: Path, columns: Models, dataset: Dataset) -> None:
    tensors, about = read_tensors(folder / FILE, "evaluation")
    write_tensors(folder / FILE, {**tensors, "labels": torch.zeros(2, 2)}, about)
    with pytest.raises(RunError, match="delete it and evaluate again"):
        evaluate(columns, dataset, (FGSM,), Settings(n=10), directory=folder)
