"""The plan: how much of everything fits into the time given, and `plan.json`, by which a run goes on as it began.

    training      what the others leave, from a trial of a batch of each stage (`carso.training.plan`)
    choice        n held-out images x gradients through, and votes of, every purifier that is to choose from
    evaluation    n images x seconds of one under every row, within a share of the time
    audit         n images x gradients of a quick audit x seconds of one gradient, of N and of the whole defence

The plan is made once; the same command goes on with the plan that it finds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from carso.data import is_same
from carso.errors import CarsoError, RunError
from carso.evaluation.protocol import Row
from carso.evaluation.radii import check_radii
from carso.hardening.choice import work_of
from carso.hardening.proposal import fitted, least
from carso.progress import duration
from carso.storage.headers import FACTORY, fitting_of
from carso.storage.schema import Kept, Schema
from carso.training.plan import Cost
from carso.training.recipe import PurifierSpec, Recipe
from carso.types import Budget, Norm

SHARES = {"choice": 0.1, "evaluation": 0.15, "audit": 0.35}
"""Of the time, at most, where the data would have images for more."""

LEAST = {"choice": 20, "evaluation": 20, "audit": 10}
MOST = {"choice": 500, "evaluation": 1000, "audit": 500}
"""Images of each."""

GRADIENTS = {"classifier": 1750, "defence": 3500}
"""What a quick audit takes per image, queries without gradient counted as a third of one: of a robust classifier as
counted on MNIST; of a defence, whose candidates it chooses and whose aggregates it attacks as well, assumed to be twice
as many."""

EXPORTED = 30.0
"""Seconds kept for the ONNX file and the report."""

SAFETY = 0.9
"""Share of the time that is planned with: steps are measured on a machine that may get busier."""

Count = Annotated[int, Field(ge=1)]


class Request(Schema):
    """What was asked for.

    Attributes:
        factory: `package.module:function` that returns the classifier.
        data: a data set's name, or a folder.
        eps: radii, on pixels in [0, 1].
        norm: of the balls.
        minutes: for all of it.
        seed: root of all randomness.
        size: height and width to which the pictures of a folder are made; None leaves them.
        channels: likewise, grey or coloured.
        skip_bad: whether pictures that cannot be used are left out.
        batch: images of one in training; None for as many as is usual of their size.
        layers: what the purifier reads; None for what is proposed.
    """

    factory: str
    data: str
    eps: tuple[float, ...]
    norm: Norm
    minutes: float
    seed: int
    size: tuple[int, int] | None = None
    channels: Literal[1, 3] | None = None
    skip_bad: bool = False
    batch: Annotated[int, Field(ge=2)] | None = None
    layers: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, factory: str, data: str, eps: Sequence[float], norm: Norm, minutes: float, seed: int, **further: Any
    ) -> Request:
        """The request with its radii in order, each once; `further` fields are those with a default.

        Raises:
            CarsoError: if there is no radius, or one that images in [0, 1] cannot be moved by; no end of time; or a
                function whose name no recipe can hold.
        """
        if not math.isfinite(minutes):
            raise CarsoError(f"--minutes must be a finite number, not {minutes}")
        if not re.fullmatch(FACTORY, factory):
            raise CarsoError(
                f"{factory!r} must be package.module:function, of letters, digits and _ alone; "
                "rename a file whose name has other signs"
            )
        if not eps:
            raise CarsoError("a hardening needs at least one --eps")
        check_radii(eps, norm)
        radii = tuple(sorted(set(eps)))
        return cls(factory=factory, data=data, eps=radii, norm=norm, minutes=minutes, seed=seed, **further)

    @property
    def fitting(self) -> dict[str, Any]:
        """How pictures are made alike, as `carso.data.load` is told, and recipes are."""
        return fitting_of(self)

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The balls."""
        return tuple(Budget(self.norm, radius) for radius in self.eps)


class Plan(Kept, Schema):
    """What is to be done.

    Attributes:
        request: what was asked for.
        recipe: how the purifier is trained.
        chosen_on: held-out images by which one of its purifiers is chosen.
        evaluated: test images of the evaluation.
        audited: test images of the audits.
        lines: the plan in words.
    """

    KEPT_AS, REMEDY = "plan.json", "it is damaged or of another version; choose another --out"

    request: Request
    recipe: Recipe
    chosen_on: Count
    evaluated: Count
    audited: Count
    lines: tuple[str, ...]


class Rates(Schema):
    """Seconds per image.

    Attributes:
        classifier: of one gradient through N.
        defence: of one through the whole defence.
        vote: of one answer of it.
        deepfool: of one search of DeepFool on N.
    """

    classifier: float
    defence: float
    vote: float
    deepfool: float

    def evaluation(self, rows: Sequence[Row]) -> float:
        """Of every row on N and the defence; DeepFool's radii share one search."""
        searched = self.deepfool if any(row.attack == "deepfool" for row in rows) else 0.0
        return searched + sum(self._attack(row) + self.vote for row in rows)

    def _attack(self, row: Row) -> float:
        steps = int(row.options.get("steps", row.attack == "fgsm")) * (row.attack != "deepfool")
        both = row.directed_at == "defence"
        return steps * (self.classifier + (self.defence if both else 0.0))

    def choice(self, spec: PurifierSpec, radii: int) -> float:
        """Of attacks on every purifier that is to choose from."""
        gradients, votes = work_of(spec, radii)
        return gradients * self.defence + votes * self.vote

    def audit(self, radii: int) -> float:
        """Of quick audits of N and of the defence."""
        return radii * (GRADIENTS["classifier"] * self.classifier + GRADIENTS["defence"] * self.defence)


def planned(
    request: Request,
    recipe: Recipe,
    costs: Sequence[Cost],
    rates: Rates,
    rows: Sequence[Row],
    stock: Mapping[str, int],
    seconds: float,
    look: Iterable[str],
) -> Plan:
    """The plan for a time.

    Args:
        request: what was asked for.
        recipe: as proposed, with one epoch of each stage.
        costs: of the stages of training.
        rates: seconds per image.
        rows: of the evaluation.
        stock: how many images there are for each part.
        seconds: that are left.
        look: what was found out about classifier and images, in lines.

    Raises:
        CarsoError: if the time is too short for anything; says the least that would do.
    """
    radii = len(request.eps)
    each = {
        "choice": rates.choice(recipe.purifier, radii),
        "evaluation": rates.evaluation(rows),
        "audit": rates.audit(radii),
    }
    few = {part: min(LEAST[part], stock[part]) for part in each}
    parts = {"training": least(costs), "export": EXPORTED} | {part: few[part] * each[part] for part in each}
    needed, time = sum(parts.values()), SAFETY * seconds
    if needed > time:
        raise CarsoError(_too_short(request.minutes, needed / SAFETY + 60 * request.minutes - seconds, parts, few))
    counts = _counts(each, few, stock, time, time - needed)
    measured = {part: counts[part] * each[part] for part in each}
    training = time - EXPORTED - sum(measured.values())
    final = fitted(recipe, costs, training)
    lines = (*look, *_lines(costs, final, measured, counts, len(rows), request.minutes))
    chosen_on, evaluated, audited = (counts[part] for part in ("choice", "evaluation", "audit"))
    return Plan(request=request, recipe=final, chosen_on=chosen_on, evaluated=evaluated, audited=audited, lines=lines)


def _counts(
    each: Mapping[str, float], few: Mapping[str, int], stock: Mapping[str, int], time: float, spare: float
) -> dict[str, int]:
    """Images of each part: as many as its share of the time allows, and the least in any case."""
    counts = {}
    for part, seconds in each.items():
        allowed = min(SHARES[part] * time, few[part] * seconds + SHARES[part] * spare)
        counts[part] = max(few[part], min(MOST[part], stock[part], int(allowed / seconds)))
    return counts


def _too_short(minutes: float, needed: float, parts: Mapping[str, float], few: Mapping[str, int]) -> str:
    of = {part: f"{part} of {few[part]} images" if part in few else part for part in parts}
    listed = ", ".join(f"{of[part]} {duration(seconds)}" for part, seconds in parts.items())
    return (
        f"--minutes {minutes:g} is too short for anything; the least that would do is --minutes "
        f"{_minutes(needed):.1f} ({listed})"
    )


def _minutes(seconds: float) -> float:
    """Minutes, rounded up to a tenth."""
    return math.ceil(seconds / 6) / 10


def _lines(
    costs: Sequence[Cost],
    recipe: Recipe,
    measured: Mapping[str, float],
    counts: Mapping[str, int],
    rows: int,
    minutes: float,
) -> list[str]:
    stages = [
        cost.of(schedule)
        for cost, schedule in zip(costs, (recipe.purification, recipe.hardening), strict=True)
        if schedule is not None
    ]
    total = sum(cost.seconds for cost in stages) + sum(measured.values()) + EXPORTED
    return [
        *(f"training    {cost}" for cost in stages),
        f"choice      of the purifier before and after training, {counts['choice']} held-out images: "
        f"{duration(measured['choice'])}",
        f"evaluation  {counts['evaluation']} images under {rows} attacks: {duration(measured['evaluation'])}",
        f"audit       quick, {counts['audit']} images, of the classifier and of the whole defence: "
        f"{duration(measured['audit'])}",
        f"export      an ONNX file and the report: {duration(EXPORTED)}",
        f"in all      about {duration(total)} of the {minutes:g} minutes given",
    ]


def read_plan(folder: Path, request: Request) -> Plan | None:
    """The plan of a run that was begun in a folder; None if there is none.

    Raises:
        RunError: if it is of another command, or damaged.
    """
    plan = Plan.read_if_there(folder)
    if plan is not None and (others := _others(plan.request, request)):
        raise RunError(f"{folder} holds the run of another command (other {', '.join(others)}); choose another --out")
    return plan


def _others(one: Request, other: Request) -> list[str]:
    """The fields in which two requests differ; data may be written in several ways."""
    differ = [name for name in Request.model_fields if getattr(one, name) != getattr(other, name)]
    return [name for name in differ if name != "data" or not is_same(one.data, other.data)]
