"""The evaluation: every row's attack on every column, image by image.

    for each row: attack what each column shows of itself, once per distinct target; let every column answer

Each (seed, row, chunk of images) has its own random streams, so a row's figures are the same whichever rows are run
beside it and however often the run was broken off. Sweeps over the number of votes alone draw the same latents for
every chunk. With a directory, the records are saved after each row, and a run with the same fingerprint goes on from
them.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import carso
from carso.data.dataset import Dataset, at_a_time
from carso.data.labelled import first
from carso.errors import RunError
from carso.evaluation import gallery, sweep
from carso.evaluation.cost import Voter, say_if_long
from carso.evaluation.environment import environment
from carso.evaluation.examples import AdversarialExamples
from carso.evaluation.flatness import flat, told
from carso.evaluation.models import (
    EXPOSURE,
    Defence,
    Model,
    Models,
    Outcome,
    answer,
    device_of,
    exposed,
    fingerprint,
    hidden,
    identity,
    plain,
    voting,
    weights_of,
)
from carso.evaluation.protocol import END_TO_END, SWEEP, TABLE, Row, curve
from carso.evaluation.records import FILE, Gallery, Records, RowRecord, Sweep, read_records
from carso.evaluation.results import write_results
from carso.evaluation.seeding import generator_of, seeded
from carso.evaluation.suiting import suited
from carso.nn.modes import evaluating
from carso.processes.group import by_first, shared
from carso.progress import progress, track
from carso.types import Budget
from carso.vote import Stop

CHUNK, VALUES = 1000, 2**22
"""Images attacked at a time, and numbers of theirs, at most, where nobody says how many images."""

LOOKED_AT = 64
"""Images on which a gradient is looked for, at most."""


def chunk_of(shape: Sequence[int]) -> int:
    """How many images (C, H, W) are attacked at a time where nobody says so: as many as usual, fewer of large ones."""
    return at_a_time(shape, CHUNK, VALUES)


@dataclass(frozen=True)
class Settings:
    """What decides the figures, besides columns, data and rows.

    Args:
        n: how many images, from the first; None for all.
        seed: of every random stream.
        samples: K, the most votes per image; None for the defence's own.
        stop: when the vote may stop early; None for the defence's own.
        curve_images: images behind each point of the accuracy-against-eps curves; 0 for no curves.
        sweep_images: images behind the accuracy-against-K sweeps, each of which takes all K votes; 0 for no sweeps.
        defence_images: images at most behind a row directed at the defence, whose attacks cost most.
        chunk: images attacked at a time, which bounds the memory; None for 1000, or fewer where they are large.
        reject_at: the rate of false alarms at which a calibrated defence turns images away; None to believe all.
    """

    n: int | None = None
    seed: int = 0
    samples: int | None = None
    stop: Stop | None = None
    curve_images: int = 1000
    sweep_images: int = 200
    defence_images: int = 1000
    chunk: int | None = None
    reject_at: float | None = None

    def __post_init__(self) -> None:
        for name, least in {
            "n": 1,
            "samples": 1,
            "curve_images": 0,
            "sweep_images": 0,
            "defence_images": 1,
            "chunk": 1,
        }.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, not {value}")


def evaluate(
    columns: Models,
    dataset: Dataset,
    rows: Sequence[Row] = TABLE + END_TO_END,
    settings: Settings | None = None,
    *,
    recipe: str = "",
    command: str = "",
    directory: Path | None = None,
    curve_rows: Sequence[Row] | None = None,
    sweep_rows: Sequence[Row] = SWEEP,
    examples: AdversarialExamples | None = None,
    adversarial: bool = True,
) -> Records:
    """Evaluate columns under attack.

    Args:
        columns: the table's columns by name, left to right: classifiers and defences.
        dataset: labelled images.
        rows: the attacks.
        settings: sizes and seed.
        recipe: the name that `results.json` carries.
        command: what a reader should type to get the same figures; shown in the report.
        directory: where `records.safetensors` and `results.json` are kept after each row; None to keep nothing.
        curve_rows: the points of the accuracy-against-eps curves; None for `protocol.curve()`.
        sweep_rows: the rows whose accuracy is followed over the number of votes.
        examples: what crafts attacked images, of the same seed; None for its own, which no other evaluation shares.
        adversarial: whether the column `adversarially_trained` is known to be so; else it is called a classifier alone.

    Returns:
        The records, whose `results()` are the figures.

    Raises:
        DataError: if the data set has no labels, too few images, or classes that a column does not know.
        ModelError: if a column breaks the contract.
        RunError: if `directory` holds another run, or corruptions come beside attacks, which are tables of their own.
    """
    settings = settings or Settings()
    run = _Run(columns, dataset, settings, directory, examples or AdversarialExamples(settings.seed))
    run.records.recipe, run.records.command, run.records.adversarial = recipe, command, adversarial
    run.check_apart(rows)
    curve_rows = curve() if curve_rows is None else curve_rows
    of_curve, of_defence = (min(most, len(run.images)) for most in (settings.curve_images, settings.defence_images))
    run.look((*rows, *curve_rows) if of_curve else rows)
    by_first(partial(run.say_cost, rows, curve_rows, of_defence, of_curve))
    for aim, n in (("classifier", len(run.images)), ("defence", of_defence)):
        run.attack([row for row in rows if row.directed_at == aim], "rows", n)
    run.attack(curve_rows, "curve", of_curve)
    run.sweep(sweep_rows, min(settings.sweep_images, len(run.images)))
    run.records.rows = _ordered(run.records.rows, rows)
    run.save()
    return run.records


@dataclass(frozen=True)
class _Step:
    """One row on one chunk: the outcomes by column, the seconds they took, and the images that one of them saw."""

    outcomes: dict[str, Outcome]
    seconds: float
    shown: Tensor | None


class _Run:
    """One evaluation under way: the data, and the records so far."""

    def __init__(
        self,
        columns: Models,
        dataset: Dataset,
        settings: Settings,
        directory: Path | None,
        crafting: AdversarialExamples,
    ) -> None:
        self.columns = columns
        self.chunk = settings.chunk or chunk_of(dataset.shape)
        self.settings = replace(settings, chunk=self.chunk)
        self.directory = directory
        dataset = suited(columns, dataset.in_turns(), settings.seed)
        self.images, self.labels = first(dataset, settings.n)
        self.crafting = crafting
        self.records = Records(
            recipe="",
            seed=settings.seed,
            fingerprint=self._fingerprint(),
            dataset=dataset.name,
            classes=[str(name) for name in dataset.classes],
            environment=environment(),
            settings=self._settings(),
            labels=self.labels.int(),
            places=None if dataset.places is None else dataset.places[: len(self.labels)].int(),
            weights={name: found for name, column in columns.items() if (found := weights_of(column))},
        )
        self._go_on()

    def say_cost(self, rows: Sequence[Row], curve_rows: Sequence[Row], of_defence: int, of_curve: int) -> None:
        """Say what the votes of every defence on the rows that are not there yet will take, if that is long."""
        aims = [row.directed_at for row in rows if row.key not in self.records.rows]
        votes = aims.count("classifier") * len(self.images) + aims.count("defence") * of_defence
        votes += sum(row.key not in self.records.curve for row in curve_rows) * of_curve
        for column in self.columns.values():
            if votes and isinstance(column, Voter):
                say_if_long(column, self.images[:64], votes, self.settings.samples, self.settings.stop)

    def look(self, rows: Sequence[Row]) -> None:
        """Record of which columns attacks meet the whole, and find hardly a gradient: those of the rows and earlier."""
        kept = [record.row for part in (self.records.rows, self.records.curve) for record in part.values()]
        aims = {row.directed_at for row in (*kept, *rows) if isinstance(row.budget, Budget)}
        few = [part[: min(LOOKED_AT, self.chunk)] for part in (self.images, self.labels)]
        self.records.hidden = [name for name, column in self.columns.items() if hidden(column)]
        with seeded(self.settings.seed, "look"):
            self.records.flat = [name for name, column in self.columns.items() if flat(column, aims, *few)]

    def attack(self, rows: Sequence[Row], part: str, n: int) -> None:
        """Fill the part "rows" or "curve" of the records, from the first n images."""
        found: dict[str, RowRecord] = getattr(self.records, part)
        todo = [row for row in rows if row.key not in found] if n else []
        spans = self._spans(n)
        plan = [(row, span) for row in todo for span in spans]
        with progress(f"{part}: attack and answer", len(plan)) as bar:
            steps = shared(plan, partial(self._step, pictured=part == "rows"))
            for row in todo:
                done: list[_Step] = []
                for step in islice(steps, len(spans)):
                    done.append(step)
                    bar.advance()
                found[row.key] = self._row(row, done)
                self.save()

    def sweep(self, rows: Sequence[Row], n: int) -> None:
        """Fill the sweeps of the gallery's column, from the first n images."""
        name = gallery.subject(self.columns)
        defence = self.columns[name]
        if not isinstance(defence, Defence) or n == 0:
            return
        todo = [row for row in rows if row.key not in self.records.sweeps]
        samples, spans = self._swept(defence), self._spans(n)
        plan = [(row, span) for row in todo for span in spans]
        found = shared(plan, lambda unit: self._sweep(*unit, defence, samples))
        steps = iter(track(found, "accuracy against the number of votes", len(plan)))
        for row in todo:
            predicted = torch.cat(list(islice(steps, len(spans))), dim=1)
            swept = Sweep(row=row, column=name, samples=torch.tensor(samples), predicted=predicted)
            self.records.sweeps[row.key] = swept
            self.save()

    def save(self) -> None:
        """Write what is known so far, if there is a place for it."""
        if self.directory is not None:
            by_first(partial(self._write, self.directory))

    def _write(self, directory: Path) -> None:
        self.records.write(directory)
        if self.records.rows:
            write_results(self.records.results(), directory)

    def _row(self, row: Row, steps: list[_Step]) -> RowRecord:
        outcomes = {name: Outcome.join([step.outcomes[name] for step in steps]) for name in self.columns}
        record = RowRecord(row=row, outcomes=outcomes, seconds=sum(step.seconds for step in steps))
        shown = [step.shown for step in steps if step.shown is not None]
        if not shown:
            return record
        return record.model_copy(update={"gallery": by_first(partial(self._gallery, record, torch.cat(shown)))})

    def _step(self, unit: tuple[Row, slice], pictured: bool) -> _Step:
        """Every column's answers to one chunk, and the images that the gallery's column saw if they are `pictured`."""
        (row, span), began = unit, time.perf_counter()
        seen = {name: exposed(column, row.directed_at) for name, column in self.columns.items()}
        aims = {name: identity(each) for name, each in seen.items()}
        outcomes, attacked = {}, {}
        for name, column in self.columns.items():
            if aims[name] not in attacked:
                attacked[aims[name]] = self._attacked(row, column, span)
            votes = generator_of(self.settings.seed, row.key, "vote", span.start)
            with seeded(self.settings.seed, row.key, "answer", span.start):
                outcomes[name] = self._answer(column, attacked[aims[name]], votes)
        shown = attacked[aims[gallery.subject(self.columns)]] if pictured else None
        return _Step(outcomes, time.perf_counter() - began, None if shown is None else shown.cpu().clone())

    def _answer(self, column: Model, images: Tensor, votes: torch.Generator) -> Outcome:
        given = self.settings
        return answer(column, images, votes, given.samples, given.stop, given.reject_at)

    def _attacked(self, row: Row, column: Model, span: slice) -> Tensor:
        images, labels = (part[span].to(device_of(column)) for part in (self.images, self.labels))
        with seeded(self.settings.seed, row.key, "crafting", span.start), evaluating(column), told():
            return self.crafting(row, exposed(column, row.directed_at), images, labels, span.start)

    def _spans(self, n: int) -> list[slice]:
        return [slice(start, min(start + self.chunk, n)) for start in range(0, n, self.chunk)]

    def _gallery(self, record: RowRecord, attacked: Tensor) -> Gallery:
        name, rival = gallery.subject(self.columns), gallery.rival(self.columns)
        draws = generator_of(self.settings.seed, record.row.key, "gallery")
        theirs = record.outcomes[rival] if rival else None
        chosen = gallery.choose(self.records.labels[: len(attacked)], record.outcomes[name], theirs, draws)
        return gallery.hang(self.columns, chosen, self.images, attacked, self.settings.seed)

    def _swept(self, defence: Defence) -> tuple[int, ...]:
        return sweep.up_to(self.settings.samples or int(getattr(defence, "samples", sweep.SAMPLES[-1])))

    def _sweep(self, row: Row, span: slice, defence: Defence, samples: Sequence[int]) -> Tensor:
        attacked, seed = self._attacked(row, defence, span), self.settings.seed
        return sweep.elected(defence, attacked, samples, lambda k: generator_of(seed, row.key, "sweep", k))

    def check_apart(self, rows: Sequence[Row]) -> None:
        """Hold corruptions and attacks, asked for now or before, to be in folders of their own."""
        kept = [record.row.norm for record in self.records.rows.values()]
        kinds = {norm == "severity" for norm in (*kept, *(row.norm for row in rows)) if norm}
        if len(kinds) > 1:
            where = "" if self.directory is None else f"{self.directory}: "
            raise RunError(f"{where}attacks and corruptions are tables of their own; choose another folder for these")

    def _settings(self) -> dict[str, Any]:
        """The settings, with what they leave to the data and the defence filled in."""
        ours = voting(self.columns[gallery.subject(self.columns)])
        return (
            ours
            | {name: value for name, value in asdict(self.settings).items() if value is not None}
            | {"n": len(self.images)}
        )

    def _fingerprint(self) -> str:
        settings = asdict(self.settings)
        if self.settings.reject_at is None:
            del settings["reject_at"]
        digest = hashlib.sha256(json.dumps(settings).encode() + carso.__version__.encode())
        for part in (self.images, self.labels):
            digest.update(part.contiguous().numpy().tobytes())
        for name, column in self.columns.items():
            digest.update(f"{name}={fingerprint(column)}".encode())
            if not plain(column):
                digest.update(f"exposure={EXPOSURE}".encode())
            if self.settings.reject_at is not None:
                digest.update(str(getattr(column, "calibration", None)).encode())
        return digest.hexdigest()

    def _go_on(self) -> None:
        """Take over the records of an earlier run of the same fingerprint."""
        if earlier := by_first(self._earlier):
            for part in ("rows", "curve", "sweeps"):
                setattr(self.records, part, getattr(earlier, part))

    def _earlier(self) -> Records | None:
        if self.directory is None or not (self.directory / FILE).exists():
            return None
        earlier = read_records(self.directory)
        if earlier.fingerprint != self.records.fingerprint:
            raise RunError(
                f"{self.directory}: holds the evaluation of another run (other models, data, seed or settings); "
                f"choose another folder, or delete {FILE} in it"
            )
        return earlier


def _ordered(found: dict[str, RowRecord], rows: Sequence[Row]) -> dict[str, RowRecord]:
    """The rows asked for in their order, then those that were there before."""
    asked = {row.key: found[row.key] for row in rows}
    return asked | {key: record for key, record in found.items() if key not in asked}
