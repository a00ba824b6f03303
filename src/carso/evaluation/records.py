"""`records.safetensors`: what every column answered to every image, and the pictures and sweeps that explain it.

The records are the evaluation's only state: `results.json` is computed from them, a broken run goes on from them, and
the report shows nothing that is not in them. One file holds all tensors under readable names, and everything that is no
tensor as JSON in its metadata. It is read without pickle.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from torch import Tensor

from carso.errors import RunError
from carso.evaluation.arrays import TENSOR, Bytes, Numbers, Pictures, Strips, Tables, check_alike
from carso.evaluation.environment import Environment
from carso.evaluation.models import Outcome
from carso.evaluation.protocol import Row
from carso.evaluation.results import COLUMNS, Believed, Rate, ResultRow, Results
from carso.storage.schema import damaged, explained, within
from carso.storage.tensors import read_state, write_tensors

FILE = "records.safetensors"
_KIND = "evaluation"


class _Record(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


class Gallery(_Record):
    """Images of one row (G of them), chosen by stated rules, and what the gallery's `column` recalled of them.

    `classifier` is the column of the bare classifier that saw the same images, if the table has one.

    `rules` says why each was chosen; `index` (G,) is its place among the images of the records. `clean` and `attacked`
    (G, C, H, W) are in [0, 1]; `linf` and `l2` (G,) measure attacked - clean. `recalled` (G, k, C, H, W) and `mean`
    (G, C, H, W), over `averaged` candidates, are bytes; both are None for a column that recalls nothing.
    """

    column: str
    rules: list[str]
    index: Numbers
    clean: Pictures
    attacked: Pictures
    linf: Numbers
    l2: Numbers
    recalled: Strips | None = None
    mean: Bytes | None = None
    averaged: int = 0
    classifier: str | None = None

    @model_validator(mode="after")
    def _of_the_same_images(self) -> Gallery:
        parts = ("index", "clean", "attacked", "linf", "l2", "recalled", "mean")
        check_alike(rules=self.linf.new_empty(len(self.rules)), **{part: getattr(self, part) for part in parts})
        return self


class RowRecord(_Record):
    """The outcomes of one row, by column."""

    row: Row
    outcomes: dict[str, Outcome]
    seconds: float
    gallery: Gallery | None = None

    @model_validator(mode="after")
    def _consistent(self) -> RowRecord:
        check_alike(**{name: outcome.predicted for name, outcome in self.outcomes.items()})
        if not self.images:
            raise ValueError("is of no image")
        shown = {self.gallery.column, self.gallery.classifier} - {None} if self.gallery else set()
        if not shown <= self.outcomes.keys():
            raise ValueError("its gallery is of a column that it lacks")
        if self.gallery and max(self.gallery.index.tolist(), default=-1) >= self.images:
            raise ValueError("its gallery shows images that it lacks")
        return self

    @property
    def images(self) -> int:
        """How many it is of."""
        return max((len(outcome.predicted) for outcome in self.outcomes.values()), default=0)


class Sweep(_Record):
    """Class (S, m) elected by a column after each of `samples` (S,) votes, on the first m images of a row."""

    row: Row
    column: str
    samples: Numbers
    predicted: Tables

    @model_validator(mode="after")
    def _of_the_same_samples(self) -> Sweep:
        check_alike(samples=self.samples, predicted=self.predicted)
        return self


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
    """Everything that an evaluation found out; the dictionaries go by `Row.key`.

    `labels` (n,) are the true classes, `places` (n,) where the images lie in the data set, None if as they are here.
    `hidden` and `flat` are as in `Results`.
    """

    recipe: str
    seed: int
    fingerprint: str
    dataset: str
    classes: list[str]
    environment: Environment
    settings: dict[str, Any]
    labels: Numbers
    command: str = ""
    weights: dict[str, str] = {}
    adversarial: bool = True
    hidden: list[str] = []
    flat: list[str] = []
    places: Numbers | None = None
    rows: dict[str, RowRecord] = {}
    curve: dict[str, RowRecord] = {}
    sweeps: dict[str, Sweep] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Records:
        check_alike(labels=self.labels, places=self.places)
        if len(self.labels) and int(self.labels.max()) >= len(self.classes):
            raise ValueError("a label is not one of the classes")
        most = [record.images for part in (self.rows, self.curve) for record in part.values()]
        most += [sweep.predicted.shape[1] for sweep in self.sweeps.values()]
        if max(most, default=0) > len(self.labels):
            raise ValueError("a row is of more images than there are labels")
        return self

    def place(self, index: int) -> int:
        """Where an image lies in the data set."""
        return index if self.places is None else int(self.places[index])

    def right(self, outcome: Outcome) -> Tensor:
        """Which of its (first) images (m,) an outcome is right on."""
        return outcome.predicted == self.labels[: len(outcome.predicted)]

    def rate(self, outcome: Outcome) -> Rate:
        """The accuracy of an outcome over its (first) images."""
        return self.rate_of(outcome.predicted)

    def rate_of(self, predicted: Tensor) -> Rate:
        """The accuracy of predicted classes (m,) of the first m images."""
        return Rate.of(int((predicted == self.labels[: len(predicted)]).sum()), len(predicted))

    def unharmed(self, outcome: Outcome) -> Rate:
        """How many images of an outcome are right or turned away."""
        right = self.right(outcome)
        away = torch.zeros_like(right) if outcome.accepted is None else ~outcome.accepted.bool()
        return Rate.of(int((right | away).sum()), len(right))

    def confusion(self, outcome: Outcome) -> Tensor:
        """How often each true class (rows) was answered with each class, or beyond them another number (columns)."""
        rows = len(self.classes)
        columns = max(rows, int(outcome.predicted.max()) + 1)
        pairs = self.labels[: len(outcome.predicted)].long() * columns + outcome.predicted.long()
        return torch.bincount(pairs, minlength=rows * columns).view(rows, columns)

    def samples_used(self, outcome: Outcome) -> SamplesUsed | None:
        """How many votes the images of an outcome took; None for a column that does not vote."""
        return None if outcome.samples is None else SamplesUsed.of(outcome.samples)

    def votes_taken(self, record: RowRecord) -> SamplesUsed | None:
        """How many votes the images of a row took in its last column that votes; None if none does."""
        used = [found for outcome in record.outcomes.values() if (found := self.samples_used(outcome))]
        return used[-1] if used else None

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
            adversarial=self.adversarial,
            hidden=self.hidden,
            flat=self.flat,
        )

    def result_row(self, record: RowRecord) -> ResultRow:
        """One row of `results.json`."""
        rates = {column: self.rate(outcome) for column, outcome in record.outcomes.items()}
        row = record.row
        taken = self.votes_taken(record)
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
            samples_used=None if taken is None else taken.model_dump(),
            believed=self._believed(record),
        )

    def _believed(self, record: RowRecord) -> Believed | None:
        """What the last column that may turn images away did with them."""
        found = [outcome for outcome in record.outcomes.values() if outcome.accepted is not None]
        if not found or found[-1].accepted is None:
            return None
        accepted = found[-1].accepted.bool()
        return Believed.of(accepted, self.right(found[-1]), self.settings.get("reject_at", 0))

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
        return {TENSOR: name}
    if isinstance(value, dict):
        return {key: _unload(item, f"{name}/{key}".lstrip("/"), tensors) for key, item in value.items()}
    return value


def read_records(path: str | Path) -> Records:
    """Read the records, given their file or its folder.

    Raises:
        RunError: if they are missing, truncated or something else, or a field is damaged.
    """
    path, remedy = within(path, FILE), "delete it and evaluate again"
    if not path.is_file():
        raise RunError(f"{path}: no such file; `carso evaluate` or `carso reproduce` writes it")
    tensors, description = read_state(path, _KIND, remedy)
    try:
        records = Records.model_validate_json(json.dumps(description.get("records")), strict=True, context=tensors)
        records.results()
    except ValidationError as error:
        raise damaged(path, explained(error), remedy) from error
    return records
