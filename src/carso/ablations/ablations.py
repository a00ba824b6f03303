"""The study carried out in a folder: the base, then each variant, trained or intervened upon, under the same attacks.

    OUT/                   the base: weights, results.json, records; ablations.json and report.html of all
    OUT/NAME/              a variant: change.json, what it has other than the base; results.json, records; weights,
                           where it has a training of its own

What is the same is made once: an N that several variants share is trained for the first of them and copied; its
attacked training images and attacked test images are kept for the next. Every step leaves its result in the folder, and
a step whose result is there is not done again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import torch
from torch import nn

from carso import data
from carso.ablations import cost
from carso.ablations.intervention import intervened
from carso.ablations.page import write_page
from carso.ablations.results import Ablations, open_variant, tabulated
from carso.ablations.study import BASE, NAME, Study, Variant, recipe_of
from carso.data import Dataset
from carso.data.labelled import check_enough
from carso.defence import CARSO
from carso.evaluation import Settings, evaluate
from carso.evaluation.examples import SharedExamples
from carso.evaluation.models import models_of
from carso.evaluation.protocol import FGSM_L2, Row
from carso.evaluation.radii import protocol_of
from carso.processes.group import by_first
from carso.progress import weighed
from carso.storage.headers import Origin
from carso.training.design import assembled
from carso.training.experiment import Experiment
from carso.training.plan import Cost, costs_of
from carso.training.purifier import PurifierStage, Shared
from carso.training.recipe import Recipe
from carso.training.watching import Watcher
from carso.vote import Stop


@dataclass(frozen=True)
class AblationStudy:
    """A study, and the folder in which it is carried out.

    Args:
        study: its variants and statements.
        recipe: of the base, with the seed of all runs.
        out: the folder; made if missing.
        device: where to train.
        images: how many test images, from the first.
        stop: when votes may stop early.
        command: what a reader should type to get the same figures.
        watcher: who is told how the trainings go, if anybody.
    """

    study: Study
    recipe: Recipe
    out: Path
    device: torch.device
    images: int
    stop: Stop = "confident"
    command: str = ""
    watcher: Watcher | None = None
    _attacked: Shared = field(default_factory=dict)

    def carry_out(self, names: Sequence[str] = (), shipped: str | None = None) -> Ablations:
        """The base and the variants of these names, or all; table, verdicts and page are of all that is there then.

        Args:
            names: of variants.
            shipped: the name of shipped weights, taken for the base instead of a training.

        Raises:
            RecipeError: if there is no variant of a name, or the recipe of one cannot be carried out.
            DataError: if there are fewer test images than are asked for.
            RunError: if the folder holds another run.
        """
        chosen = self.study.chosen(names)
        check_enough(self._test, self.images)
        for experiment in (self.base, *(self.trained[name] for name in chosen if name in self.trained)):
            experiment.check()
        self.base.open(adopting=shipped is not None)
        if shipped is not None:
            self.base.adopt(shipped)
        seconds = by_first(partial(self._say_cost, chosen))
        self.base.complete()
        self._evaluate(self.base.defence(), self.base, self.recipe.name, self.out, self.base.undefended())
        for name in weighed(seconds, NAME):
            self._variant(name, chosen[name])
        return by_first(self._publish)

    @cached_property
    def base(self) -> Experiment:
        """The defence that is not ablated."""
        return Experiment(self.recipe, self.out, self.device, shared=self._attacked, watcher=self.watcher)

    @cached_property
    def trained(self) -> dict[str, Experiment]:
        """The variants that have a training of their own."""
        recipes = {n: recipe_of(v, n, self.recipe) for n, v in self.study.variants.items() if v.recipe is not None}
        return {
            name: Experiment(recipe, self.out / name, self.device, shared=self._attacked, watcher=self.watcher)
            for name, recipe in recipes.items()
        }

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Clean, the attacks on N alone, and those on the whole defence, as the base's evaluation has them."""
        origin = Origin.model_validate(self.recipe.model_dump(mode="json"), strict=False)
        return tuple(row for row in protocol_of(origin, self.recipe.data).rows if row not in FGSM_L2)

    @cached_property
    def _test(self) -> Dataset:
        return data.load(self.recipe.data, "test", **self.recipe.fitting)

    @cached_property
    def _examples(self) -> SharedExamples:
        return SharedExamples(self.recipe.seed)

    def _variant(self, name: str, variant: Variant) -> None:
        """One variant, from its training, if it has one, to its results."""
        by_first(partial(open_variant, variant, self.out / name))
        experiment = self.trained.get(name, self.base)
        if variant.intervention is None:
            defence = self._trained(experiment)
        else:
            held_out, seed = self.base.validation, self.recipe.seed
            defence = intervened(self.base.defence(), variant.intervention, held_out, seed)
        self._evaluate(defence, experiment, f"{NAME}-{name}", self.out / name)

    def _trained(self, experiment: Experiment) -> CARSO:
        experiment.open()
        for other in (self.base, *self.trained.values()):
            by_first(partial(experiment.take_classifier, other))
        experiment.complete()
        return experiment.defence()

    def _evaluate(
        self, defence: CARSO, trained: Experiment, name: str, folder: Path, undefended: nn.Module | None = None
    ) -> None:
        settings = Settings(self.images, self.recipe.seed, stop=self.stop, curve_images=0, sweep_images=0)
        evaluate(
            models_of(defence, undefended),
            self._test,
            self.rows,
            settings,
            recipe=name,
            command=self.command,
            directory=folder,
            curve_rows=(),
            sweep_rows=(),
            examples=self._examples,
            adversarial=trained.recipe.against_attacks,
        )

    def _publish(self) -> Ablations:
        found = tabulated(self.study, self.out, self.command)
        found.write(self.out)
        write_page(found, self.out)
        return found

    def _say_cost(self, chosen: Mapping[str, Variant]) -> dict[str, float]:
        """What is still to be trained, each different N once, and evaluated; returns the seconds of each variant."""
        costs, known = {BASE: costs_of(self.base.pending())}, [self.recipe.first_stage]
        for name, experiment in ((name, self.trained[name]) for name in chosen if name in self.trained):
            new = experiment.recipe.first_stage not in known
            pending = [stage for stage in experiment.pending() if new or stage.name != "adversarial training"]
            costs[name] = costs_of(pending)
            known += [experiment.recipe.first_stage] * new
        like_base = sum(variant.attacked_as_base for variant in chosen.values())
        work = cost.Work(len(known), 1 + len(chosen) - like_base, 1 + len(chosen), self.images)
        evaluation = cost.seconds_of(work, self._trial_defence, self._test, self.rows, self.stop)
        cost.announce([each for name, some in costs.items() for each in named(name, some)], evaluation)
        return {name: evaluation / work.runs + sum(each.seconds for each in costs.get(name, [])) for name in chosen}

    def _trial_defence(self) -> CARSO:
        """The base, or before its training one with the same networks."""
        stage = next((stage for stage in self.base.pending() if stage.name == "purifier"), None)
        if stage is None:
            return self.base.defence()
        built = stage.build(2, 1)
        assert isinstance(built, PurifierStage)
        built.classifier.cpu()
        return assembled(self.recipe, built.representation, built.module.cpu())


def named(variant: str, costs: Sequence[Cost]) -> list[Cost]:
    """The costs of stages, by the names of their variant and their own."""
    return [replace(each, name=f"{variant}, {each.name}") for each in costs]
