"""An experiment: a recipe carried out in a folder, from images to report.

    undefended -> classifier N -> purifier -> evaluation -> report

Every step leaves its result in the folder, and a step whose result is there is not done again: an interrupted run
goes on where it was, to the same end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carso import data
from carso.attacks.losses import DLR_CLASSES
from carso.data import Dataset
from carso.data.fingerprint import fingerprint
from carso.data.labelled import check_alike, names_of
from carso.data.pairs import Pairs
from carso.defence import CARSO
from carso.detection import HELD_OUT, LEAST
from carso.errors import RecipeError, RunError
from carso.processes.group import by_first
from carso.purifier import Purifier
from carso.representation import Representation
from carso.storage import factory, weights
from carso.storage.files import copy, settle
from carso.storage.folder import RECIPE
from carso.training.checkpoint import finished
from carso.training.classifier import ClassifierStage
from carso.training.design import (
    as_known,
    assembled,
    check_classes,
    classifier_of,
    look_at,
    purifier_of,
    representation_of,
)
from carso.training.history import add_history, read_history
from carso.training.loop import Stage, beginning, fit
from carso.training.own import Own
from carso.training.plan import Pending
from carso.training.purifier import PurifierStage, Shared, check_kept
from carso.training.recipe import ClassifierTraining, PurifierTraining, Recipe
from carso.training.watching import Watcher, tell

RESULTS = (
    ("undefended", weights.UNDEFENDED),
    ("adversarial training", weights.CLASSIFIER),
    ("purifier", weights.UNHARDENED),
    ("purifier", weights.PURIFIER),
    ("hardening", weights.PURIFIER),
)
"""The stages, by name, and the files after which their checkpoints are of no use."""


@dataclass(frozen=True)
class Experiment:
    """A recipe and the folder in which it is carried out.

    Args:
        recipe: with the seed of this run.
        out: the folder; made if missing.
        device: where to train.
        classifier: a trained classifier of the user's own, instead of stage 1.
        sets: the images that fit and the held-out ones, instead of the recipe's `data`, which then is but a name.
        shared: attacked training images, for experiments that have the same N.
        watcher: who is told how the trainings go, if anybody.
    """

    recipe: Recipe
    out: Path
    device: torch.device
    classifier: nn.Module | None = None
    sets: tuple[Dataset, Dataset] | None = None
    shared: Shared | None = None
    watcher: Watcher | None = None

    def check(self) -> None:
        """Refuse a recipe that has no purifier to train, or one that cannot be made, before anything is trained.

        Raises:
            RecipeError: saying what the recipe is for, what is wrong with the purifier's fields, pairs or losses, or
                that a function does not return the same classifier in every call.
            DataError: if pairs cannot be read, held-out images are of another shape than those that fit, or their
                classes cannot be told among those of a classifier of the user's.
            ModelError: if the purifier is to read layers that the classifier does not have, or a classifier of the
                user's breaks the contract.
        """
        sections = ("purifier", self._purification()), ("hardening", self.recipe.hardening)
        if not (self.out / weights.PURIFIER).exists():
            self.check_images()
            self._own.check(self.train, trained=self.recipe.adversarial is None)
        for name, schedule in sections:
            if schedule is not None and name not in self._over:
                self._check_fed(name, schedule)
        ours = self.classifier is None and self.recipe.classifier.factory is None
        if ours and not (self.out / weights.CLASSIFIER).exists():
            with beginning(self.recipe.seed, "check"):
                self._design(self._untrained(), self.train)

    def check_images(self) -> None:
        """Raise a DataError unless held-out images have the shape of those that fit."""
        check_alike(self.validation, "validation", self.train.shape)

    def _check_fed(self, name: str, schedule: PurifierTraining) -> None:
        """Hold what a stage of the purifier is fed to the data and the classes."""
        if schedule.feed == "cached":
            check_kept(name, schedule, self.train)
        fed, _ = self._pairs(schedule)
        if fed.shape != self.train.shape:
            raise RecipeError(
                f"{name}: pairs: {fed.name} has images of {fed.shape}, not {self.train.shape} as the data"
            )
        if schedule.labels == "true" and fed.labels is None:
            raise RecipeError(f"{name}: labels: true, and {fed.name} has no labels; set labels: predicted")
        if any(attack.loss == "dlr" for attack in schedule.attacks) and self._own.classes(self.train) < DLR_CLASSES:
            raise RecipeError(f"{name}: loss: dlr needs {DLR_CLASSES} classes or more; set loss: margin")

    def open(self, adopting: bool = False) -> None:
        """Take the folder: write the resolved recipe into it, and clear away checkpoints of finished stages.

        Args:
            adopting: whether `adopt` follows, which holds weights that are there to the shipped ones.

        Raises:
            RunError: if it holds the run of another recipe, seed or classifier, weights of no known recipe, or a
                damaged history.
        """
        by_first(partial(self._open, adopting))

    def _open(self, adopting: bool) -> None:
        path = self.out / RECIPE
        read_history(self.out)
        if not adopting:
            check_known(self.out)
            self._check_classifier()
        refusal = f"{self.out} holds the run of another recipe or seed ({path}); choose another --out"
        settle(path, self.recipe.to_yaml(), refusal)
        for name, file in RESULTS:
            if (self.out / file).exists():
                self._forget(name)

    def _check_classifier(self) -> None:
        """Hold an N that comes with its weights to the one that the folder was begun for."""
        path = self.out / weights.CLASSIFIER
        if path.exists() and (own := self._own.module) is not None and not weights.is_of(path, own):
            raise RunError(f"{self.out} was begun for a classifier with other weights; choose another --out")

    @cached_property
    def _own(self) -> Own:
        """N, where it is the user's."""
        return Own(self.recipe.classifier, self.classifier)

    @cached_property
    def train(self) -> Dataset:
        """The images that fit."""
        return self.sets[0] if self.sets else data.load(self.recipe.data, "train", **self.recipe.fitting)

    @cached_property
    def validation(self) -> Dataset:
        """The held-out images, in turns."""
        held_out = self.sets[1] if self.sets else data.load(self.recipe.data, "validation", **self.recipe.fitting)
        return held_out.in_turns()

    @cached_property
    def test(self) -> Dataset:
        """The test images of the recipe's `data`."""
        return data.load(self.recipe.data, "test", **self.recipe.fitting)

    def adopt(self, name: str) -> None:
        """Copy shipped weights, and the audit of them, into the folder instead of training; an audit there stays.

        Raises:
            RunError: if the folder already holds other weights.
        """
        by_first(partial(self._adopt, weights.find(name)))

    def _adopt(self, source: Path) -> None:
        files = (weights.CLASSIFIER, weights.PURIFIER, weights.UNDEFENDED)
        for file in (file for file in files if (source / file).exists()):
            target = self.out / file
            if target.exists() and target.read_bytes() != (source / file).read_bytes():
                raise RunError(f"{target} was trained here and is not the shipped one; choose another --out")
            copy(source / file, target)
        if (source / weights.AUDIT).exists() and not (self.out / weights.AUDIT).exists():
            copy(source / weights.AUDIT, self.out / weights.AUDIT)

    def take_classifier(self, other: Experiment) -> None:
        """Copy the N of an experiment that would train the same one, if it is there and none is here."""
        source, target = (each.out / weights.CLASSIFIER for each in (other, self))
        if self.recipe.first_stage == other.recipe.first_stage and source.exists() and not target.exists():
            copy(source, target)

    @property
    def _over(self) -> set[str]:
        """Names of the stages whose result is there."""
        return {name for name, file in RESULTS if (self.out / file).exists()}

    def pending(self) -> list[Pending]:
        """The stages that are still to be carried out, in order."""
        recipe, over = self.recipe, self._over
        schedules: dict[str, ClassifierTraining | PurifierTraining | None] = {
            "undefended": recipe.undefended,
            "adversarial training": recipe.adversarial if self.classifier is None else None,
            "purifier": recipe.purification,
            "hardening": recipe.hardening,
        }
        return [
            Pending(
                name,
                schedule,
                finished(self._checkpoint(name)),
                self._pairs(schedule)[0],
                self.validation,
                partial(self._trial, name, schedule),
            )
            for name, schedule in schedules.items()
            if schedule is not None and name not in over
        ]

    def _trial(self, name: str, schedule: ClassifierTraining | PurifierTraining, few: int, held_out: int) -> Stage:
        """A stage with fresh networks, on the first so many images."""
        (train, pairs), validation = self._pairs(schedule), self.validation[:held_out]
        if isinstance(schedule, ClassifierTraining):
            return ClassifierStage(name, self._untrained(name), schedule, train[:few], validation, self.device)
        known = self.classifier is not None or (self.out / weights.CLASSIFIER).exists()
        classifier = self._trained_classifier() if known else self._untrained()
        representation, purifier = self._design(classifier, train)
        pairs = None if pairs is None else pairs[:few]
        return PurifierStage(name, representation, purifier, schedule, train[:few], validation, 0, self.device, pairs)

    def carry_out(self, shipped: str | None = None) -> None:
        """Every step up to the defence, from nothing or with the weights of a shipped one; finished ones are kept.

        Raises:
            WeightsError: if there is no such shipped defence.
            RunError: if the folder holds another run.
        """
        if shipped is None:
            self.check()
        else:
            weights.find(shipped)
        self.open(adopting=shipped is not None)
        if shipped is not None:
            self.adopt(shipped)
        self.complete()

    def complete(self) -> None:
        """Every stage up to the defence; finished ones are kept."""
        self.train_undefended()
        self.train_classifier()
        self.train_purifier()

    def train_undefended(self) -> None:
        """Train the undefended classifier, if the recipe has one."""
        if self.recipe.undefended is not None:
            self._classifier("undefended", self.recipe.undefended, weights.UNDEFENDED)

    def train_classifier(self) -> None:
        """Stage 1: N."""
        if self.classifier is not None or (self.out / weights.CLASSIFIER).exists():
            return
        if self.recipe.adversarial is not None:
            self._classifier("adversarial training", self.recipe.adversarial, weights.CLASSIFIER)
        elif (own := self._own.module) is not None:
            self._save_classifier(own, weights.CLASSIFIER)
        else:
            raise RecipeError(f"recipe {self.recipe.name} has neither `adversarial` nor `classifier.factory`")

    def train_purifier(self) -> None:
        """Stage 2: the purifier of N."""
        if (self.out / weights.PURIFIER).exists():
            return
        schedule, hardening = self._purification(), self.recipe.hardening
        classifier = self._trained_classifier()
        train, _ = self._pairs(schedule)
        look_at(classifier, check_classes(classifier, self.train), self.validation)
        with beginning(self.recipe.seed, "purifier"):
            representation, purifier = self._design(classifier, train)
        file = weights.PURIFIER if hardening is None else weights.UNHARDENED
        self._purify("purifier", schedule, representation, purifier, file)
        if hardening is not None:
            self._purify("hardening", hardening, representation, purifier, weights.PURIFIER)

    def _design(self, classifier: nn.Module, train: Dataset) -> tuple[Representation, Purifier]:
        representation = representation_of(self.recipe.purifier, classifier, train)
        return representation, purifier_of(self.recipe.purifier, representation, train)

    def _purify(
        self, name: str, schedule: PurifierTraining, representation: Representation, purifier: Purifier, file: str
    ) -> None:
        if (self.out / file).exists():
            weights.restore_purifier(purifier, self.out / file, representation.classifier)
            return
        train, pairs = self._pairs(schedule)
        known = as_known(train, representation.classifier) if pairs is None else train
        sets = known, self.validation, self.recipe.seed, self.device, pairs, self.shared
        self._fit(PurifierStage(name, representation, purifier, schedule, *sets))
        representation.classifier.cpu()
        defence = assembled(self.recipe, representation, purifier.cpu())
        defence.class_names = _names(representation.classifier, self.train, defence.classes)
        by_first(partial(self._save_purifier, name, defence, file))

    def _save_purifier(self, name: str, defence: CARSO, file: str) -> None:
        if file == weights.PURIFIER:
            self.keep(defence)
        else:
            weights.save_purifier(defence, self.out / file, self._origin("purifier"))
        self._forget(name)

    def _calibrate(self, defence: CARSO) -> None:
        """Set the thresholds of `detect` by held-out images, as far as there are enough."""
        held_out = self.validation[:HELD_OUT]
        if len(held_out) >= LEAST:
            with beginning(self.recipe.seed, "calibration"):
                defence.calibrate(held_out.images, torch.Generator().manual_seed(self.recipe.seed))

    def keep(self, defence: CARSO) -> None:
        """Save a purifier as that of the run, with thresholds of its own."""
        self._calibrate(defence)
        weights.save_purifier(defence, self.out / weights.PURIFIER, self._origin("purifier"))

    def defence(self) -> CARSO:
        """The trained defence."""
        return weights.load(self.out, self._own.lent())

    def undefended(self) -> nn.Module | None:
        """The undefended classifier, if there is one."""
        return weights.load_undefended(self.out, self._own.made())

    def _classifier(self, name: str, schedule: ClassifierTraining, file: str) -> None:
        if (self.out / file).exists():
            return
        with beginning(self.recipe.seed, name):
            classifier = self._untrained(name)
        sets = self.train, self.validation
        if self.recipe.classifier.factory is not None:
            sets = as_known(self.train, classifier), as_known(self.validation, classifier)
        self._fit(ClassifierStage(name, classifier, schedule, *sets, self.device))
        self._save_classifier(classifier.cpu(), file, trained=True)
        by_first(partial(self._forget, name))

    def _untrained(self, name: str = "adversarial training") -> nn.Module:
        """The network of a stage; contrast is a defence, which the undefended one does without."""
        spec = self.recipe.classifier
        if (own := self._own.made()) is not None:
            return own
        return classifier_of(spec.model_copy(update={"contrast": 0.0}) if name == "undefended" else spec, self.train)

    def _fit(self, stage: Stage) -> None:
        read_history(self.out)
        told = None if self.watcher is None else partial(tell, self.watcher)
        epochs = fit(stage, self.recipe.seed, self._fingerprint(stage), self._checkpoint(stage.name), told)
        by_first(partial(add_history, self.out, stage.name, epochs))

    def _fingerprint(self, stage: Stage) -> str:
        """What decides the weights of a stage, but for the seed: the recipe, the images, and a frozen N."""
        told = "/".join([self.recipe.fingerprint, fingerprint(stage.train), fingerprint(self.validation)])
        return f"{told}/{weights.digest(stage.classifier)}" if isinstance(stage, PurifierStage) else told

    def _checkpoint(self, name: str) -> Path:
        return self.out / "checkpoints" / f"{name.replace(' ', '-')}.safetensors"

    def _forget(self, name: str) -> None:
        self._checkpoint(name).unlink(missing_ok=True)

    def _save_classifier(self, classifier: nn.Module, file: str, trained: bool = False) -> None:
        origin = self._origin(Path(file).stem) | {"trained": trained}
        by_first(lambda: weights.save_classifier(classifier, self.out / file, origin))

    def _origin(self, stage: str) -> dict[str, Any]:
        return {"stage": stage, "recipe": self.recipe.model_dump(mode="json"), "seed": self.recipe.seed}

    def _trained_classifier(self) -> nn.Module:
        """N, to be moved and laid out for training; of a module of the user's, a copy."""
        if (own := self._own.lent()) is None:
            return weights.load_classifier(self.out / weights.CLASSIFIER)
        filled = weights.with_own_weights(own, self.out / weights.CLASSIFIER)
        return factory.copied(filled) if filled is self.classifier else filled

    def _purification(self) -> PurifierTraining:
        if self.recipe.purification is None:
            raise RecipeError(f"recipe {self.recipe.name} has no `purification`: it is for `carso train classifier`")
        return self.recipe.purification

    def _pairs(self, schedule: ClassifierTraining | PurifierTraining) -> tuple[Dataset, torch.Tensor | None]:
        """What a stage is fed; the labels of ready-made pairs are as N numbers its classes."""
        if isinstance(schedule, ClassifierTraining) or schedule.pairs is None:
            return self.train, None
        pairs = self._read_pairs(schedule.pairs)
        classes = () if pairs.labels is None else self._own.names(self.train)
        return Dataset(pairs.name, pairs.clean, pairs.labels, classes), pairs.attacked

    @cached_property
    def _read_pairs(self) -> Callable[[str], Pairs]:
        """`load_pairs`, which reads a file once."""
        return cache(data.load_pairs)


def check_known(folder: Path) -> None:
    """Raise a RunError if a folder holds weights without the recipe that made them."""
    if not (folder / RECIPE).exists() and any((folder / file).exists() for _, file in RESULTS):
        raise RunError(f"{folder} holds weights of no known recipe; choose another --out")


def _names(classifier: nn.Module, train: Dataset, classes: int) -> tuple[str, ...] | None:
    """What the classifier calls its classes, else the data set; None unless there is a name for each."""
    return next((names for names in (names_of(classifier), train.classes) if names and len(names) == classes), None)
