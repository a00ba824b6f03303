"""Hardening a trained classifier, in a folder, within a time: plan, train, evaluate, audit, export, report.

    recipe.yaml, plan.json     what is done
    purifier.safetensors       the purifier; with N it is the defence
    choice.json                which purifier of the training it is, by held-out images under attack
    results.json, report.html  the thesis's protocol for N and the defence, and attacks on the whole
    audit.json                 the quick audit of the whole defence; classifier/audit.json that of N
    defence.onnx               the defence for serving

Every step leaves its result in the folder, and a step whose result is there is not done again. Images without labels
are labelled by N itself: what is measured then is how often N's own clean answer is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from carso import data
from carso.audit import audit, keeping
from carso.audit.audit import needed
from carso.audit.results import Audit
from carso.data import Dataset
from carso.data.labelled import check_alike
from carso.defence import CARSO
from carso.errors import ModelError, NothingRightError, RunError
from carso.evaluation import Records, Row, Settings, evaluate
from carso.evaluation.labelling import labelled
from carso.evaluation.models import models_of
from carso.evaluation.radii import check_radii, protocol_of
from carso.hardening.choice import Choice, chosen
from carso.hardening.conclusion import SUBJECTS
from carso.hardening.plan import Plan, Request, planned, read_plan
from carso.hardening.proposal import batch_of, proposed, purifier_for, reading
from carso.hardening.survey import TRIED, described, rates_of
from carso.storage.export import export, is_export_of
from carso.storage.factory import module
from carso.storage.folder import RECIPE
from carso.storage.headers import Origin
from carso.training.design import as_known, assembled, check_classes
from carso.training.experiment import Experiment, check_known
from carso.training.plan import cost_of
from carso.training.purifier import PurifierStage
from carso.training.recipe import Recipe
from carso.training.watching import Watcher
from carso.types import Budget

ONNX, CLASSIFIER = "defence.onnx", "classifier"


@dataclass(frozen=True)
class Found:
    """What a run found out.

    Attributes:
        records: of the evaluation.
        audits: of "classifier" and "defence", without those that have no clean image right.
        left: which images (n,) each of these left right, budget by budget.
        choice: of the purifier.
        onnx: the exported file, or why there is none.
    """

    records: Records
    audits: dict[str, Audit]
    left: dict[str, list[Tensor]]
    choice: Choice
    onnx: Path | str

    @property
    def exit_code(self) -> int:
        """3 if a check of an audit was raised, or a subject could not be audited, else 0."""
        return max(self.audits[name].exit_code if name in self.audits else 3 for name in SUBJECTS)


@dataclass(frozen=True)
class Hardening:
    """What was asked for, and the folder in which it is done.

    Args:
        request: what was asked for.
        out: the folder; made if missing.
        device: where to train and attack.
        watcher: who is told how the training goes, if anybody.
        chunk: images attacked at a time when the defence is measured; None as evaluations and audits have it.
    """

    request: Request
    out: Path
    device: torch.device
    watcher: Watcher | None = None
    chunk: int | None = None

    def plan(self) -> Plan:
        """The plan that the folder holds, or a new one, which is then kept there.

        Raises:
            RunError: if the folder holds another run, or weights of no known recipe.
            CarsoError: if the time is too short for anything.
        """
        began = time.monotonic()
        if (plan := read_plan(self.out, self.request)) is not None:
            return plan
        if (self.out / RECIPE).exists():
            raise RunError(f"{self.out} holds another run, and no plan of this one; choose another --out")
        check_known(self.out)
        plan = self._planned(began)
        plan.write(self.out)
        return plan

    def carry_out(self, plan: Plan) -> Found:
        """Every step of the plan; finished ones are kept."""
        experiment = Experiment(plan.recipe, self.out, self.device, watcher=self.watcher)
        experiment.carry_out()
        choice = chosen(experiment, self.request.budgets, plan.chosen_on, self.chunk)
        defence = experiment.defence().to(self.device)
        used = max(plan.evaluated, needed(self.test.shape, "quick", plan.audited))
        test = labelled(self.test, defence.classifier, used)
        records = self._evaluated(defence, test, plan)
        subjects = {"classifier": (defence.classifier, self.out / CLASSIFIER), "defence": (defence, self.out)}
        tried = {name: self._audited(subject, test, plan, out) for name, (subject, out) in subjects.items()}
        audits = {name: found for name, found in tried.items() if found is not None}
        left = {name: _left(subjects[name][1], found) for name, found in audits.items()}
        return Found(records, audits, left, choice, self._exported(experiment.defence(), test))

    @cached_property
    def test(self) -> Dataset:
        """The test images, in an order drawn by the seed: pictures on disk lie class by class."""
        return data.load(self.request.data, "test", **self.request.fitting).shuffled(self.request.seed)

    def _planned(self, began: float) -> Plan:
        asked = self.request
        train, held_out = (data.load(asked.data, split, **asked.fitting) for split in ("train", "validation"))
        for split, images in (("validation", held_out), ("test", self.test)):
            check_alike(images, split, train.shape)
        check_radii(asked.eps, asked.norm, train.shape)
        check_classes(classifier := module(asked.factory), train)
        held_out = as_known(held_out.in_turns(), classifier)
        purifier = reading(purifier_for(classifier.eval().to(self.device), held_out, asked.budgets), asked.layers)
        recipe = proposed(
            "hardened",
            asked.factory,
            asked.data,
            asked.eps,
            asked.norm,
            asked.seed,
            purifier,
            batch=asked.batch or batch_of(train.shape),
            **asked.fitting,
        )
        experiment = Experiment(recipe, self.out, self.device, sets=(train, held_out))
        experiment.check()
        pending = experiment.pending()
        costs = [cost_of(stage) for stage in pending]
        stage = pending[0].build(2, 1)
        assert isinstance(stage, PurifierStage)
        defence = assembled(recipe, stage.representation, stage.purifier.eval()).to(self.device)
        rates = rates_of(defence, labelled(self.test, defence.classifier, TRIED), asked.eps[-1], asked.norm)
        look = described(defence, experiment, self.test, asked.factory)
        stock = {"choice": len(held_out), "evaluation": len(self.test), "audit": len(self.test)}
        left = 60 * asked.minutes - (time.monotonic() - began)
        return planned(asked, recipe, costs, rates, rows_of(recipe, asked), stock, left, look)

    def _evaluated(self, defence: CARSO, test: Dataset, plan: Plan) -> Records:
        n = plan.evaluated
        settings = Settings(
            n=n, seed=self.request.seed, curve_images=0, sweep_images=0, defence_images=n, chunk=self.chunk
        )
        columns, rows = models_of(defence, None), rows_of(plan.recipe, self.request)
        name, adversarial = plan.recipe.name, plan.recipe.against_attacks
        return evaluate(columns, test, rows, settings, recipe=name, directory=self.out, adversarial=adversarial)

    def _audited(self, subject: nn.Module, test: Dataset, plan: Plan, out: Path) -> Audit | None:
        asked = self.request
        name = asked.factory if out != self.out else f"CARSO around {asked.factory}"
        try:
            return audit(
                subject,
                test,
                effort="quick",
                eps=asked.eps,
                norm=asked.norm,
                n=plan.audited,
                seed=asked.seed,
                name=name,
                chunk=self.chunk,
                out=out,
            )
        except NothingRightError:
            return None

    def _exported(self, defence: CARSO, test: Dataset) -> Path | str:
        path, seed = self.out / ONNX, self.request.seed
        if is_export_of(defence, path, seed):
            return path
        try:
            return export(defence, path, test[:32].images, seed=seed, name=self.out.resolve().name)
        except ModelError as error:
            return f"none: {error}"


def _left(folder: Path, found: Audit) -> list[Tensor]:
    return [keeping.left(folder, Budget(budget.norm, budget.eps)) for budget in found.budgets]


def rows_of(recipe: Recipe, request: Request) -> tuple[Row, ...]:
    """The rows of the evaluation: the thesis's protocol at the radii asked for, and attacks on the whole."""
    origin = Origin.model_validate_json(recipe.model_dump_json())
    return protocol_of(origin, request.data, request.eps, request.norm).rows
