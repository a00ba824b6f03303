"""`records.safetensors`: what every column answered to every image, and the pictures and sweeps that explain it.

The records are the evaluation's only state: `results.json` is computed from them, a broken run goes on from them, and
the report shows nothing that is not in them. One file holds all tensors under readable names, and everything that is no
tensor as JSON in its metadata. It is read without pickle.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from carso.errors import RunError
from carso.evaluation.environment import Environment
from carso.evaluation.models import Outcome
from carso.evaluation.protocol import Row
from carso.evaluation.results import COLUMNS, Rate, ResultRow, Results
from carso.storage.tensors import read_tensors, write_tensors

FILE = "records.safetensors"
_KIND = "evaluation"
_TENSOR = "$tensor"


class _Record(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)


class Gallery(_Record):
    """Images of one row (G of them), chosen by stated rules, and what the gallery's `column` recalled of them.

    `classifier` is the column of the bare classifier that saw the same images, if the table has one.

    `rules` says why each was chosen; `index` (G,) is its place in the data set. `clean` and `attacked` (G, C, H, W) are
    in [0, 1]; `linf` and `l2` (G,) measure attacked - clean. `recalled` (G, k, C, H, W) and `mean` (G, C, H, W), over
    `averaged` candidates, are bytes; both are None for a column that recalls nothing.
    """

    column: str
    rules: list[str]
    index: Tensor
    clean: Tensor
    attacked: Tensor
    linf: Tensor
    l2: Tensor
    recalled: Tensor | None = None
    mean: Tensor | None = None
    averaged: int = 0
    classifier: str | None = None


class RowRecord(_Record):
    """The outcomes of one row, by column."""

    row: Row
    outcomes: dict[str, Outcome]
    seconds: float
    gallery: Gallery | None = None


class Sweep(_Record):
    """Class (S, m) elected by a column after each of `samples` (S,) votes, on the first m images of a row."""

    row: Row
    column: str
    samples: Tensor
    predicted: Tensor


class SamplesUsed(_Record):
    """Mean, tenth, half, nine tenths and most of the numbers of votes that a row's images took."""

    mean: float
    low: float
    median: float
    high: float
    max: float

    @classmethod
    def of(cls, samples: Tensor) -> SamplesUsed:
        """The summary of samples (n,)."""
        low, median, high = samples.double().quantile(torch.tensor([0.1, 0.5, 0.9]).double()).tolist()
        mean = round(samples.double().mean().item(), 1)
        return cls(mean=mean, low=low, median=median, high=high, max=float(samples.max()))


class Records(_Record):
    """Everything that an evaluation found out. `labels` (n,) are the true classes; the dictionaries go by `Row.key`."""

    recipe: str
    seed: int
    fingerprint: str
    dataset: str
    classes: list[str]
    environment: Environment
    settings: dict[str, Any]
    labels: Tensor
    command: str = ""
    weights: dict[str, str] = {}
    rows: dict[str, RowRecord] = {}
    curve: dict[str, RowRecord] = {}
    sweeps: dict[str, Sweep] = {}

    def rate(self, outcome: Outcome) -> Rate:
        """The accuracy of an outcome over its (first) images."""
        return self.rate_of(outcome.predicted)

    def rate_of(self, predicted: Tensor) -> Rate:
        """The accuracy of predicted classes (m,) of the first m images."""
        return Rate.of(int((predicted == self.labels[: len(predicted)]).sum()), len(predicted))

    def confusion(self, outcome: Outcome) -> Tensor:
        """How often each true class (rows) was answered with each class (columns)."""
        size = len(self.classes)
        pairs = self.labels[: len(outcome.predicted)].long() * size + outcome.predicted.long()
        return torch.bincount(pairs, minlength=size * size).view(size, size)

    def samples_used(self, outcome: Outcome) -> SamplesUsed | None:
        """How many votes the images of an outcome took; None for a column that does not vote."""
        return None if outcome.samples is None else SamplesUsed.of(outcome.samples)

    def results(self) -> Results:
        """The figures of `results.json`."""
        return Results(
            recipe=self.recipe,
            seed=self.seed,
            n=len(self.labels),
            environment=self.environment,
            rows=[self.result_row(record) for record in self.rows.values()],
            dataset=self.dataset,
            settings=self.settings,
            command=self.command,
            weights=self.weights,
        )

    def result_row(self, record: RowRecord) -> ResultRow:
        """One row of `results.json`."""
        rates = {column: self.rate(outcome) for column, outcome in record.outcomes.items()}
        row = record.row
        return ResultRow(
            attack=row.attack,
            norm=row.norm,
            eps=row.eps,
            foreseen=row.foreseen,
            directed_at=row.directed_at,
            **{column: rates.pop(column, None) for column in COLUMNS},
            others=rates,
            thesis=dict(row.thesis) if row.thesis else None,
            options=dict(row.options) | ({"eot": row.eot} if row.directed_at == "defence" else {}),
            seconds=round(record.seconds, 2),
            samples_used=self._most_samples_used(record),
        )

    def _most_samples_used(self, record: RowRecord) -> dict[str, float] | None:
        used = [found for outcome in record.outcomes.values() if (found := self.samples_used(outcome))]
        return used[-1].model_dump() if used else None

    def write(self, directory: Path) -> Path:
        """Write the records into `directory` in one step."""
        tensors: dict[str, Tensor] = {}
        tree = _unload(self.model_dump(), "", tensors)
        path = directory / FILE
        write_tensors(path, tensors, {"kind": _KIND, "records": tree})
        return path


def _unload(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """A JSON tree of `value`, whose tensors go to `tensors` and leave their names behind."""
    if isinstance(value, Tensor):
        tensors[name] = value.clone(memory_format=torch.contiguous_format)
        return {_TENSOR: name}
    if isinstance(value, dict):
        return {key: _unload(item, f"{name}/{key}".lstrip("/"), tensors) for key, item in value.items()}
    return value


def _load(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, dict):
        return tensors[value[_TENSOR]] if _TENSOR in value else {key: _load(v, tensors) for key, v in value.items()}
    return value


def read_records(path: Path) -> Records:
    """Read the records, given their file or its folder.

    Raises:
        RunError: if they are missing or a field is damaged.
        WeightsError: if the file is truncated or something else.
    """
    path = path / FILE if path.is_dir() else path
    if not path.is_file():
        raise RunError(f"{path}: no such file; `carso evaluate` or `carso reproduce` writes it")
    tensors, description = read_tensors(path, _KIND)
    try:
        return Records.model_validate(_load(description["records"], tensors))
    except (ValidationError, KeyError, ValueError) as error:
        raise RunError(f"{path}: is damaged ({error}); delete it and evaluate again") from error
