"""The recipe that is proposed for a trained classifier, and how it is fitted into a given time.

    purification    clean images and FGSM on N: the purifier learns to recall what N saw
    hardening       clean images, PGD on N, and annealed PGD on the whole defence with two losses
    purifier        of colour and of large images the corrective one, since narrow codes blur what N needs to see;
                    of ink on paper the same with contrast, if N answers images of more contrast as before

Both are without labels: attacks move away from N's own answers, and N is to give the same answers to what is recalled.
A stage that has t seconds, t_0 of them before its first batch, takes E epochs of b of its B batches:

    t = t_0 + E (b t_batch + t_val)        E at least 10 and at most 40, as far as b can be at least 10 and at most B
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import nn

from carso.data.dataset import Dataset, at_a_time
from carso.evaluation.models import device_of
from carso.nn.contrast import Contrast
from carso.nn.correction import viewed
from carso.nn.querying import answers
from carso.representation import layers_of
from carso.training.design import LOOKED_AT, is_convolutional
from carso.training.plan import Cost
from carso.training.recipe import AttackSpec, ClassifierSpec, PurifierSpec, PurifierTraining, Recipe
from carso.types import INPUT, Budget, Images, Norm

Changed: TypeAlias = Callable[[Images], Images]

BATCH, FEWEST, VALUES = 128, 16, 2**21
"""Images of a batch: so many, or as few as that where all their numbers would be more than these."""

STEPS = 5
"""Of the attacks in training."""

CONSISTENCY = 300.0
"""Weight of N's answers to what is recalled, beside some 1,800 nats of an image of CIFAR-10."""

CORRECTIVE = 10_000.0
"""The same where the image is kept, so that those nats are near their least from the start."""

SHIFTED = 16
"""A viewpoint's shift is the smaller side of the images divided by this, as classifiers are trained with crops."""

MIRROR = (1, 1, 1)
"""Signs of latents, by which an image is mirrored."""

CORNERS = [(-1, fall, turn) for fall in (1, -1) for turn in (1, -1)]
"""Signs of latents, by which an image is shifted every way and not mirrored."""

AGREED = 0.8
"""Share of held-out images that N must answer as before from a viewpoint, for candidates to be seen from there."""

UNDISTURBED = 0.98
"""Share of held-out images that N must answer as before with contrast, which all candidates then have."""

INK = 0.8
"""Share of the pixels that are black or white once there is contrast, for images to be ink on paper."""

EPOCHS = (10, 40)
"""How many a stage has, at least and at most."""

LEAST_BATCHES = 10
"""Of an epoch, where there are as many."""

SHARES = {"purifier": 0.35, "hardening": 0.65}
"""Of the time for training."""


def batch_of(shape: Sequence[int]) -> int:
    """How many images (C, H, W) a batch has: fewer of large ones, since N's activations on them take the memory."""
    return at_a_time(shape, BATCH, VALUES, FEWEST)


def purifier_for(classifier: nn.Module, images: Dataset, budgets: Sequence[Budget]) -> PurifierSpec:
    """The purifier: of photographs and of ink on paper one that keeps the image.

    Photographs are seen from where N answers them mostly as before; ink gets more contrast, if N does so there.

    Args:
        classifier: N.
        images: held out; their labels are not used.
        budgets: of the attacks.
    """
    if INPUT in layers_of(classifier):
        return PurifierSpec()
    some, shift = images[:LOOKED_AT], min(images.shape[1:]) // SHIFTED
    contrast = _contrast(classifier, some, budgets)
    if not is_convolutional(PurifierSpec(), images.shape):
        return PurifierSpec(kind="corrective", contrast=contrast) if contrast else PurifierSpec()
    mirrored = _agreement(classifier, some, [_from(MIRROR, 0)]) >= AGREED
    moved = _agreement(classifier, some, [_from(corner, shift) for corner in CORNERS]) >= AGREED
    return PurifierSpec(kind="corrective", flip=mirrored, shift=shift if moved else 0, contrast=contrast)


def reading(spec: PurifierSpec, layers: Sequence[str] | None) -> PurifierSpec:
    """The purifier with the layers that it is to read, where these are named; one that corrects the image reads it."""
    if layers is None:
        return spec
    first = () if spec.kind != "corrective" or INPUT in layers else (INPUT,)
    return spec.model_copy(update={"layers": (*first, *layers)})


def _contrast(classifier: nn.Module, images: Dataset, budgets: Sequence[Budget]) -> float:
    """The largest radius in Linf, if black and white are most of the images and N answers as before beyond; else 0."""
    radii = [budget.eps for budget in budgets if budget.norm == "Linf" and budget.eps < 0.5]
    if not radii:
        return 0.0
    contrast = Contrast(max(radii))
    greys = torch.cat([contrast(part).flatten() for _, part in images.chunks()])
    inked = ((greys == 0) | (greys == 1)).float().mean().item() >= INK
    return contrast.eps if inked and _agreement(classifier, images, [contrast]) >= UNDISTURBED else 0.0


def _from(signs: Sequence[int], shift: int) -> Changed:
    """Images from the viewpoint of latents of these signs."""
    return lambda part: viewed(part, part.new_tensor(signs).expand(len(part), -1), shift, not shift)


def _agreement(classifier: nn.Module, images: Dataset, changes: Sequence[Changed]) -> float:
    """The share of N's answers that stay what they are, on average over what is done to the images."""
    device = device_of(classifier)
    parts = [part.to(device) for _, part in images.chunks()]
    own = answers(classifier, parts)
    seen = (answers(classifier, [change(part) for part in parts]) for change in changes)
    return torch.stack([each == own for each in seen]).float().mean().item()


def proposed(
    name: str,
    factory: str,
    data: str,
    eps: Sequence[float],
    norm: Norm,
    seed: int,
    purifier: PurifierSpec,
    batch: int | None = None,
    **fitting: Any,
) -> Recipe:
    """The recipe, with one epoch of each stage.

    Args:
        name: of the recipe.
        factory: `package.module:function` that returns N.
        data: name or folder of the images.
        eps: radii of the attacks, on pixels in [0, 1].
        norm: of their balls.
        seed: root of all randomness.
        purifier: its architecture.
        batch: images of one; None for as many as is usual of small images.
        fitting: how pictures are made alike: `size`, `channels` and `skip_bad` of a recipe.
    """
    first = [AttackSpec(attack="fgsm", eps=radius, norm=norm) for radius in eps]
    second = [spec for radius in eps for spec in _attacks(radius, norm)]
    corrects = purifier.kind == "corrective"
    consistency, rates = (CORRECTIVE, (0.001, 0.001)) if corrects else (CONSISTENCY, (0.004, 0.002))
    return Recipe(
        name=name,
        data=data,
        seed=seed,
        classifier=ClassifierSpec(factory=factory),
        purifier=purifier,
        purification=_training(rates[0], first, batch or BATCH, consistency),
        hardening=_training(rates[1], second, batch or BATCH, consistency),
        **fitting,
    )


def _training(rate: float, attacks: Sequence[AttackSpec], batch: int, consistency: float) -> PurifierTraining:
    return PurifierTraining(
        epochs=1,
        batch=batch,
        rate=rate,
        average=0.995,
        attacks=tuple(attacks),
        feed="fresh",
        mixing="parts",
        labels="predicted",
        consistency=consistency,
    )


def _attacks(eps: float, norm: Norm) -> list[AttackSpec]:
    on_defence = AttackSpec(attack="annealed", eps=eps, norm=norm, steps=STEPS, directed_at="defence")
    return [
        AttackSpec(attack="pgd", eps=eps, norm=norm, steps=STEPS),
        on_defence,
        on_defence.model_copy(update={"loss": "margin"}),
    ]


def fitted(recipe: Recipe, costs: Sequence[Cost], seconds: float) -> Recipe:
    """The recipe with as many epochs, of as many batches, as its stages have time for.

    Args:
        recipe: as `proposed`.
        costs: of its stages.
        seconds: for all of them together, at least `least`.
    """
    sections = {"purifier": "purification", "hardening": "hardening"}
    spare = seconds - least(costs)
    changed = {}
    for cost in costs:
        section = sections[cost.name]
        schedule = getattr(recipe, section)
        length = _length(cost, _least(cost) + SHARES[cost.name] * spare)
        changed[section] = schedule.model_copy(update=length)
    return recipe.model_copy(update=changed)


def _length(cost: Cost, seconds: float) -> dict[str, int | None]:
    """Epochs, and batches of each where they are not all."""
    left = seconds - cost.setup
    whole = cost.batches * cost.batch + cost.validation
    epochs = min(max(int(left / whole), EPOCHS[0]), EPOCHS[1])
    batches = int((left / epochs - cost.validation) / cost.batch)
    if batches < (few := min(LEAST_BATCHES, cost.batches)):
        epochs, batches = max(1, int(left / (few * cost.batch + cost.validation))), few
    return {"epochs": epochs, "batches": None if batches >= cost.batches else batches}


def least(costs: Sequence[Cost]) -> float:
    """Seconds that the stages need for an epoch of a few batches each."""
    return sum(map(_least, costs))


def _least(cost: Cost) -> float:
    return cost.setup + min(LEAST_BATCHES, cost.batches) * cost.batch + cost.validation
