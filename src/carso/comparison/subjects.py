"""The subjects of a study: what each entry's audit is held against, trained first where it has to be.

OUT/NAME/rival.safetensors                                 of a rival
OUT/NAME/classifier.safetensors                            of a recipe
OUT/NAME/training.json                                     of a recipe: the seconds of its training
OUT/NAME/history.json, checkpoints/                        of its training
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carso import data, rivals
from carso.audit import load_target
from carso.comparison.results import Training
from carso.comparison.study import Entry, Study
from carso.data import Dataset
from carso.data.fingerprint import fingerprint
from carso.defence import CARSO
from carso.errors import RunError
from carso.nn.fiwagr import randomised
from carso.processes.group import by_first
from carso.progress import note
from carso.rivals import files
from carso.rivals.kinds import RivalSpec, build, stages
from carso.storage import weights
from carso.training.design import classifier_of
from carso.training.experiment import Experiment
from carso.training.history import add_history
from carso.training.loop import Stage, beginning, fit
from carso.training.plan import Pending, timed
from carso.training.reading import read_recipe

FIRST_STAGE = "adversarial training"


@dataclass(frozen=True)
class Subjects:
    """The subjects of a study, by the names of their entries.

    Args:
        study: its entries.
        out: the folder of the study.
        device: where to train.
        seed: of trainings.
        settings: of an entry, all that decides what comes of it but the images: a checkpoint of others is refused.
    """

    study: Study
    out: Path
    device: torch.device
    seed: int
    settings: Callable[[str], str]

    def of(self, name: str) -> Any:
        """What is audited; it is trained first where it has to be."""
        entry, folder = self.study.entries[name], self.out / name
        if entry.rival is not None:
            if not (folder / files.FILE).exists():
                self._make(name, entry, entry.rival)
            return rivals.load(folder)
        if entry.recipe is not None:
            self._train(name, entry.recipe)
            return weights.load_classifier(folder / weights.CLASSIFIER)
        assert entry.target is not None
        return _with_noise(load_target(entry.target), entry)

    def seconds(self, name: str) -> float | None:
        """How long the training of a rival or of a recipe's network took, where that was timed."""
        path = self.out / name
        if (told := Training.read_if_there(path)) is not None:
            return told.seconds
        return files.read(path)[1].seconds if (path / files.FILE).exists() else None

    def pending(self, name: str) -> list[Pending]:
        """The stages of an entry that are still to be trained."""
        entry, folder = self.study.entries[name], self.out / name
        if entry.recipe is not None:
            return [each for each in self._experiment(name, entry.recipe).pending() if each.name == FIRST_STAGE]
        if entry.rival is None or (folder / files.FILE).exists():
            return []
        names = [name] if len(entry.training) == 1 else [f"{name}, part {i + 1}" for i in range(len(entry.training))]
        return [
            Pending(names[i], schedule, 0, *self._sets, partial(self._trial, name, entry, entry.rival, i))
            for i, schedule in enumerate(entry.training)
        ]

    @cached_property
    def _sets(self) -> tuple[Dataset, Dataset]:
        return data.load(self.study.data, "train"), data.load(self.study.data, "validation")

    def _experiment(self, name: str, recipe: str) -> Experiment:
        return Experiment(read_recipe(recipe).model_copy(update={"seed": self.seed}), self.out / name, self.device)

    def _train(self, name: str, recipe: str) -> None:
        """Train a recipe's network, and keep the seconds that it took, unless an interrupted run had begun it."""
        experiment, pending = self._experiment(name, recipe), self.pending(name)
        experiment.open()
        _, seconds = timed(experiment.train_classifier)
        if pending and not pending[0].done:
            by_first(partial(Training(seconds=seconds).write, self.out / name))

    def _trial(self, name: str, entry: Entry, spec: RivalSpec, stage: int, few: int, some: int) -> Stage:
        """A stage with fresh networks, on the first so many images."""
        (train, held_out), (rival, _) = self._sets, self._untrained(name, entry, spec)
        return stages(spec, rival, entry.training, (train[:few], held_out[:some]), self.device)[stage]

    def _make(self, name: str, entry: Entry, spec: RivalSpec) -> None:
        """Train a rival, or take over what another has learned, and save it."""
        rival, classifier = self._untrained(name, entry, spec)
        if entry.weights_of is not None:
            self._take(rival, entry.weights_of)
            by_first(partial(files.save, rival, spec, classifier, self.out / name))
            return
        with beginning(self.seed, name, "stages"):
            pending = stages(spec, rival, entry.training, self._sets, self.device)
        taken = {stage.name: self._fit(name, stage) for stage in pending}
        own = [seconds for stage, seconds in taken.items() if stage not in getattr(rival, "attackers", ())]
        seconds = None if None in own else sum(each for each in own if each is not None)
        by_first(partial(files.save, rival.cpu(), spec, classifier, self.out / name, seconds))
        for stage in pending:
            self._checkpoint(name, stage.name).unlink(missing_ok=True)

    def _take(self, rival: nn.Module, source: str) -> None:
        """Everything but N of another entry's rival."""
        self.of(source)
        theirs, _ = files.read(self.out / source)
        own = {name: value for name, value in rival.state_dict().items() if name.startswith("classifier.")}
        rival.load_state_dict({**theirs, **own})

    def _untrained(self, name: str, entry: Entry, spec: RivalSpec) -> tuple[nn.Module, nn.Module]:
        """The rival with fresh networks, and its N."""
        train, _ = self._sets
        with beginning(self.seed, name):
            classifier = load_target(entry.classifier) if entry.classifier else classifier_of(self.study.network, train)
            return build(spec, classifier, train.shape, len(train.classes)), classifier

    def _fit(self, name: str, stage: Stage) -> float | None:
        """Train a stage; the seconds that it took, unless an interrupted run had begun it."""
        checkpoint = self._checkpoint(name, stage.name)
        told = "/".join([self.settings(name), *map(fingerprint, self._sets)])
        fresh, mark = not checkpoint.exists(), hashlib.sha256(told.encode()).hexdigest()
        epochs, seconds = timed(lambda: fit(stage, self.seed, mark, checkpoint))
        by_first(partial(add_history, self.out / name, stage.name, epochs))
        return seconds if fresh else None

    def _checkpoint(self, name: str, stage: str) -> Path:
        return self.out / name / "checkpoints" / f"{stage.replace(' ', '-')}.safetensors"


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
