"""The study carried out in a folder: each entry trained, audited in two norms, and measured.

    OUT/                   comparison.json and report.html of all that is there
    OUT/NAME/              an entry: entry.json, what the study says of it; rival.safetensors, or a recipe's
                           classifier.safetensors; history.json, audit.json, figures.json
    OUT/NAME/unforeseen/   audit.json in the norm that no training foresaw

Every step leaves its result in the folder, and a step whose result is there is not done again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carso import data, rivals
from carso.audit import audit, load_target
from carso.audit.effort import Effort
from carso.audit.loading import undefended_of
from carso.audit.results import Audit, read_audit
from carso.comparison.measuring import measured
from carso.comparison.page import write_page
from carso.comparison.results import (
    FIGURES,
    Audited,
    Comparison,
    Figures,
    Line,
    read_figures,
    write_comparison,
    write_figures,
)
from carso.comparison.study import Entry, Study
from carso.data import Dataset
from carso.defence import CARSO
from carso.errors import RunError
from carso.evaluation.environment import environment
from carso.evaluation.examples import SharedExamples
from carso.nn.fiwagr import randomised
from carso.processes.group import by_first
from carso.progress import note, track
from carso.rivals import files
from carso.rivals.kinds import RivalSpec, build, stages
from carso.storage import weights
from carso.storage.files import copy, write_text
from carso.storage.weights import AUDIT, CLASSIFIER
from carso.training.design import classifier_of
from carso.training.experiment import Experiment
from carso.training.history import add_history
from carso.training.loop import Stage, fit, seeded
from carso.training.plan import Pending, announce, timed
from carso.training.reading import read_recipe
from carso.types import Norm

UNFORESEEN, SETTINGS = "unforeseen", "entry.json"


@dataclass(frozen=True)
class ComparisonStudy:
    """A study, and the folder in which it is carried out.

    Args:
        study: its entries.
        out: the folder; made if missing.
        device: where to train.
        seed: of trainings and attacks.
        images: how many test images, from the first; by default as many as the study says, of each entry.
        command: what a reader should type to get the same figures.
    """

    study: Study
    out: Path
    device: torch.device
    seed: int = 0
    images: int | None = None
    command: str = ""

    def carry_out(self, names: Sequence[str] = ()) -> Comparison:
        """The entries of these names, or all; the table and the page are of all that are there then.

        Raises:
            RecipeError: if there is no entry of a name.
            RunError: if the folder holds another study.
        """
        chosen = self.study.chosen(tuple(names))
        for name in chosen:
            by_first(partial(self._open, name))
        by_first(lambda: announce([each for name in chosen for each in self._pending(name)]))
        for name, entry in track(chosen.items(), "rivals", len(chosen)):
            self._entry(name, entry)
            found = by_first(self._publish)
        return found

    def _open(self, name: str) -> None:
        """Hold the folder of an entry to what the study says of it, the seed and the number of images."""
        path, text = self.out / name / SETTINGS, self._settings(name)
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise RunError(f"{path.parent} holds another study, seed or number of images; choose another --out")
        write_text(path, text)

    def _settings(self, name: str) -> str:
        """All that decides the figures of an entry, as JSON."""
        entry = self.study.entries[name].model_dump(mode="json", exclude={"about", "published"})
        shared = self.study.model_dump(mode="json", exclude={"entries"})
        return json.dumps({"entry": entry, "study": shared, "seed": self.seed, "images": self.images}, indent=1) + "\n"

    @cached_property
    def _sets(self) -> tuple[Dataset, Dataset]:
        return data.load(self.study.data, "train"), data.load(self.study.data, "validation")

    @cached_property
    def _test(self) -> Dataset:
        return data.load(self.study.data, "test")

    @cached_property
    def _examples(self) -> SharedExamples:
        return SharedExamples(self.seed)

    def _entry(self, name: str, entry: Entry) -> None:
        """One entry, from its training, if it has one, to its figures."""
        folder, ball, eps = self.out / name, self.study.unforeseen, self.study.eps
        if self.images is None and not (folder / AUDIT).exists():
            by_first(partial(self._take_shipped_audit, entry, folder))
        subject = self._subject(name)
        images = self.images or entry.images or self.study.images
        unforeseen = min(images, ball.images)
        self._audit(subject, name, folder, "Linf", eps, images, entry.effort or self.study.effort)
        self._audit(subject, name, folder / UNFORESEEN, ball.norm, (ball.eps,), unforeseen, ball.effort)
        if not (folder / FIGURES).exists():
            figures = measured(subject, self._test[:images], self._examples, self.seed, self._trained(name))
            by_first(partial(write_figures, figures, folder))

    def _take_shipped_audit(self, entry: Entry, folder: Path) -> None:
        """The audit that ships beside a target's weights, if it asked the same of them."""
        source = weights.find(entry.target) / AUDIT if entry.target in (*weights.DEFAULTS, *weights.shipped()) else None
        if source is None or entry.randomised or not source.exists():
            return
        found, wanted = read_audit(source), (entry.effort or self.study.effort, self.seed, "Linf", *self.study.eps)
        if (found.effort, found.seed, found.budgets[0].norm, *(each.eps for each in found.budgets)) == wanted:
            copy(source, folder / AUDIT)

    def _audit(
        self, subject: Any, name: str, folder: Path, norm: Norm, eps: Sequence[float], n: int, effort: Effort
    ) -> None:
        if (folder / AUDIT).exists():
            return
        others = {} if (plain := undefended_of(self.study.data)) is None else {"undefended": plain}
        told = {"effort": effort, "eps": eps, "norm": norm, "n": n, "seed": self.seed, "transfer": others}
        audit(subject, self._test, name=name, out=folder, **told)  # type: ignore[arg-type]

    def _subject(self, name: str) -> Any:
        """What is audited; it is trained first where it has to be."""
        entry, folder = self.study.entries[name], self.out / name
        if entry.rival is not None:
            if not (folder / files.FILE).exists():
                self._train(name, entry, entry.rival)
            return rivals.load(folder)
        if entry.recipe is not None:
            experiment = self._experiment(name)
            experiment.open()
            experiment.train_classifier()
            return weights.load_classifier(folder / CLASSIFIER)
        assert entry.target is not None
        return _with_noise(load_target(entry.target), entry)

    def _experiment(self, name: str) -> Experiment:
        recipe = read_recipe(self.study.entries[name].recipe or "")
        return Experiment(recipe.model_copy(update={"seed": self.seed}), self.out / name, self.device)

    def _train(self, name: str, entry: Entry, spec: RivalSpec) -> None:
        rival, classifier = self._untrained(name, entry, spec)
        if entry.weights_of is not None:
            self._subject(entry.weights_of)
            own = {k: v for k, v in rival.state_dict().items() if k.startswith("classifier.")}
            taken, _ = files.read(self.out / entry.weights_of)
            rival.load_state_dict({**taken, **own})
            seconds = None
        else:
            with seeded(self.seed, name, "stages"):
                pending = stages(spec, rival, entry.training, self._sets, self.device)
            taken_each = [self._fit(name, stage) for stage in pending]
            seconds = None if None in taken_each else math.fsum(t for t in taken_each if t is not None)
        by_first(partial(files.save, rival.cpu(), spec, classifier, self.out / name, seconds))
        for stage in () if entry.weights_of else pending:
            self._checkpoint(name, stage.name).unlink(missing_ok=True)

    def _untrained(self, name: str, entry: Entry, spec: RivalSpec) -> tuple[nn.Module, nn.Module]:
        """The rival with fresh networks, and its N."""
        train, _ = self._sets
        with seeded(self.seed, name):
            classifier = load_target(entry.classifier) if entry.classifier else classifier_of(self.study.network, train)
            return build(spec, classifier, train.shape, len(train.classes)), classifier

    def _fit(self, name: str, stage: Stage) -> float | None:
        """Train a stage; the seconds that it took, unless an interrupted run had begun it."""
        checkpoint = self._checkpoint(name, stage.name)
        fresh = not checkpoint.exists()
        epochs, seconds = timed(
            lambda: fit(stage, self.seed, hashlib.sha256(self._settings(name).encode()).hexdigest(), checkpoint)
        )
        by_first(partial(add_history, self.out / name, stage.name, epochs))
        return seconds if fresh else None

    def _checkpoint(self, name: str, stage: str) -> Path:
        return self.out / name / "checkpoints" / f"{stage.replace(' ', '-')}.safetensors"

    def _pending(self, name: str) -> list[Pending]:
        """The stages of an entry that are still to be trained."""
        entry, folder = self.study.entries[name], self.out / name
        if entry.recipe is not None:
            return [each for each in self._experiment(name).pending() if each.name == "adversarial training"]
        if entry.rival is None or not entry.training or (folder / files.FILE).exists():
            return []
        spec, (train, held_out) = entry.rival, self._sets

        def trial(place: int, few: int, some: int) -> Stage:
            rival, _ = self._untrained(name, entry, spec)
            return stages(spec, deepcopy(rival), entry.training, (train[:few], held_out[:some]), self.device)[place]

        return [
            Pending(
                f"{name}, part {i + 1}" if len(entry.training) > 1 else name,
                schedule,
                0,
                train,
                held_out,
                partial(trial, i),
            )
            for i, schedule in enumerate(entry.training)
        ]

    def _trained(self, name: str) -> float | None:
        """Seconds of its training, where they were taken."""
        if self.study.entries[name].rival is None:
            return None
        return files.read(self.out / name)[1].seconds

    def _publish(self) -> Comparison:
        lines = [line for name, entry in self.study.entries.items() if (line := self._line(name, entry)) is not None]
        found = Comparison(
            seed=self.seed,
            dataset=self._test.name,
            command=self.command,
            environment=environment(),
            entries=lines,
        )
        write_comparison(found, self.out)
        write_page(found, self.out)
        return found

    def _line(self, name: str, entry: Entry) -> Line | None:
        """What there is of an entry that is finished."""
        folder = self.out / name
        if not all((folder / each).exists() for each in (AUDIT, Path(UNFORESEEN) / AUDIT, FIGURES)):
            return None
        audits: list[Audit] = [read_audit(folder), read_audit(folder / UNFORESEEN)]
        figures: Figures = read_figures(folder)
        own, unforeseen = (Audited.of(each) for each in audits)
        published = list(entry.published)
        return Line(
            name=name, about=entry.about, audit=own, unforeseen=unforeseen, figures=figures, published=published
        )


def _with_noise(subject: Any, entry: Entry) -> Any:
    """A CARSO with FiWAGR in the paths that an entry names."""
    if not entry.randomised:
        return subject
    if not isinstance(subject, CARSO):
        raise RunError(f"{entry.target} has no paths for FiWAGR: it is no CARSO")
    paths = {"representation": subject.purifier.maps, "decoder": subject.purifier.decoder[-1]}
    for path in entry.randomised:
        randomised(paths[path])
    note(f"gradients are noise in: {', '.join(entry.randomised)}")
    return subject
