"""The choice of a purifier among those of a training, by held-out images, since training may do harm.

    kept = argmax over d of #{x : d(x') = N(x) for x' = x and for x' found by every attack on d}

    d     the defence untrained, where it then gives back the image; after its first stage; and after its last
    x     held-out images; no label is used
    x'    annealed PGD on the whole of d with two losses, at every radius: stronger than what training used

An untrained purifier that gives back the image makes a defence that is no worse than its classifier. Training then has
something to lose: against attackers of the whole, what it learned may be one more network to attack.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from carso.data import Dataset
from carso.defence import CARSO
from carso.evaluation import Row, Settings, evaluate
from carso.evaluation.labelling import answered
from carso.evaluation.records import Records
from carso.evaluation.results import Rate
from carso.report.wording import TRAINED as TRAINED_AS
from carso.storage import weights
from carso.storage.files import copy
from carso.storage.folder import CHOICE
from carso.storage.schema import Kept, Schema
from carso.training.design import assembled, purifier_of
from carso.training.experiment import Experiment
from carso.training.loop import beginning
from carso.training.recipe import PurifierSpec
from carso.types import Budget

FOLDER, TRAINED = "choice", "purifier-hardened.safetensors"

STEPS = 40
"""Of the attacks."""

LOSSES = ("cross_entropy", "margin")

UNTRAINED, UNHARDENED, HARDENED = "untrained", "unhardened", "hardened"


class Choice(Kept, Schema):
    """What the held-out images said.

    Attributes:
        kept: which purifier.
        rates: on how many images each keeps N's clean answer, whatever was tried.
    """

    KEPT_AS, REMEDY = CHOICE, "delete it to choose again"

    kept: str
    rates: dict[str, Rate]

    def __str__(self) -> str:
        others = ", ".join(
            f"{_share(rate)} {TRAINED_AS[name]}" for name, rate in self.rates.items() if name != self.kept
        )
        n = self.rates[self.kept].total
        return (
            f"The purifier is kept {TRAINED_AS[self.kept]}: of {n} held-out images, attacked as a whole, "
            f"{_share(self.rates[self.kept])} keep the classifier's answer ({others})."
        )


def _share(rate: Rate) -> str:
    return f"{rate.accuracy:.1f} %"


def rows_of(budgets: Sequence[Budget]) -> tuple[Row, ...]:
    """No attack, and the attacks at every radius."""
    return (
        Row("none", directed_at="defence"),
        *(
            Row("pgd-eot", budget, directed_at="defence", options={"steps": STEPS, "loss": loss})
            for budget in budgets
            for loss in LOSSES
        ),
    )


def work_of(spec: PurifierSpec, radii: int) -> tuple[int, int]:
    """How many gradients through the whole, and how many votes, an image of the choice takes."""
    candidates, attacks = 3 if _begins_with_the_image(spec) else 2, radii * len(LOSSES)
    return candidates * attacks * STEPS, candidates * (attacks + 1)


def chosen(experiment: Experiment, budgets: Sequence[Budget], n: int, chunk: int | None = None) -> Choice:
    """Keep the best purifier of a finished training as that of the run; a choice that was made before stands.

    Args:
        experiment: whose folder holds the purifiers, and afterwards `choice.json` and the one that is kept.
        budgets: of the attacks.
        n: held-out images.
        chunk: of them that are attacked at a time; None as `carso.evaluation.Settings` has it.

    Raises:
        RunError: if the choice that was made is damaged.
    """
    if (made := Choice.read_if_there(experiment.out)) is not None:
        return made
    defences = _defences(experiment)
    held_out = _held_out(experiment, defences[HARDENED], n)
    settings = Settings(n=n, seed=experiment.recipe.seed, curve_images=0, sweep_images=0, defence_images=n, chunk=chunk)
    folder = experiment.out / FOLDER
    records = evaluate(defences, held_out, rows_of(budgets), settings, recipe=experiment.recipe.name, directory=folder)
    choice = best(records)
    used, trained = experiment.out / weights.PURIFIER, experiment.out / TRAINED
    if not trained.exists():
        copy(used, trained)
    if choice.kept == HARDENED:
        copy(trained, used)
    else:
        experiment.keep(defences[choice.kept].cpu())
    choice.write(experiment.out)
    return choice


def best(records: Records) -> Choice:
    """The column that is right under every row on most images; of equals the one that was trained least."""
    right = {
        name: torch.stack([row.outcomes[name].predicted == records.labels for row in records.rows.values()]).all(0)
        for name in next(iter(records.rows.values())).outcomes
    }
    rates = {name: Rate.of(int(each.sum()), len(each)) for name, each in right.items()}
    return Choice(kept=max(rates, key=lambda name: rates[name].correct), rates=rates)


def _defences(experiment: Experiment) -> dict[str, CARSO]:
    """The defence of each purifier, the one that was trained least first."""
    out, hardened = experiment.out, experiment.defence()
    if (out / TRAINED).exists():
        weights.restore_purifier(hardened.purifier, out / TRAINED, hardened.classifier)
    found = {UNTRAINED: _untrained(experiment, hardened)} if _begins_with_the_image(experiment.recipe.purifier) else {}
    if (out / weights.UNHARDENED).exists():
        found[UNHARDENED] = _untrained(experiment, hardened)
        weights.restore_purifier(found[UNHARDENED].purifier, out / weights.UNHARDENED, hardened.classifier)
    return {name: defence.to(experiment.device) for name, defence in (found | {HARDENED: hardened}).items()}


def _untrained(experiment: Experiment, hardened: CARSO) -> CARSO:
    with beginning(experiment.recipe.seed, "purifier"):
        purifier = purifier_of(experiment.recipe.purifier, hardened.representation, experiment.train)
    defence = assembled(experiment.recipe, hardened.representation, purifier.eval())
    defence.class_names = hardened.class_names
    return defence


def _begins_with_the_image(spec: PurifierSpec) -> bool:
    return spec.kind == "corrective"


def _held_out(experiment: Experiment, defence: CARSO, n: int) -> Dataset:
    """Held-out images in an order drawn by the seed, with N's own answers for labels."""
    some = experiment.validation.shuffled(experiment.recipe.seed)[:n]
    return answered(some, defence.classifier, defence.class_names)
