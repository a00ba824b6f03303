"""A mixture: clean images and several attacks on them, in equal parts of one batch or one after the other.

Attacks of one kind (same target, method, norm and steps; on the classifier, whose folded loops cut their batches, the
same loss as well) run together with one radius per image: one call of many images is faster than two of fewer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from carso.attacks.ball import Pace, annealing, steady
from carso.attacks.budget import length
from carso.attacks.gradient import ascend
from carso.attacks.losses import Loss, loss_of
from carso.processes.dealing import deal_of, dealing, drawn
from carso.training.recipe import AttackSpec
from carso.types import Classifier, Images, Labels, Norm

NOISE_RADII = 2
"""Radii within which the noise of N-FGSM lies."""


class Mixture:
    """Attacks as a training mixture.

    Args:
        attacks: what stands beside the clean images; none makes every batch clean.
        clean: how many parts are clean images.
    """

    def __init__(self, attacks: Sequence[AttackSpec], clean: int = 1) -> None:
        self.attacks, self.clean = sorted(attacks, key=_kind), int(clean)

    @property
    def parts(self) -> int:
        """Clean images and each attack: how many parts a batch has."""
        return len(self.attacks) + self.clean

    @property
    def needs_defence(self) -> bool:
        """Whether some attack is directed at the whole defence."""
        return any(spec.directed_at == "defence" for spec in self.attacks)

    def mix(
        self,
        classifier: Classifier,
        images: Images,
        labels: Labels,
        defence: Classifier | None = None,
        scale: float | Tensor = 1.0,
        loss: Loss | None = None,
    ) -> Images:
        """The batch with its first parts clean, as many as are to be, and the others attacked.

        Args:
            classifier: what most attacks are directed at; in eval mode.
            images: (B, C, H, W), in random order.
            labels: (B,) to move away from.
            defence: a differentiable stand-in of the whole defence, for the attacks directed at it.
            scale: what every radius is multiplied by.
            loss: what every attack climbs in place of its own.
        """
        deal = deal_of(len(images))
        whole = [round(i * deal.size / self.parts) for i in range(self.parts + 1)]
        cuts = [deal.before(row) for row in whole]
        mixed, end = [images[: cuts[self.clean]]], self.clean
        for _, group in groupby(self.attacks, key=_kind):
            kin = list(group)
            start, end = end, end + len(kin)
            sizes = [cuts[i + 1] - cuts[i] for i in range(start, end)]
            rows = slice(cuts[start], cuts[end])
            target = _target(kin[0], classifier, defence)
            with dealing(deal.part(whole[start], whole[end])):
                mixed.append(perturb(target, images[rows], labels[rows], kin, sizes, scale, loss))
        return torch.cat(mixed)

    def part(
        self,
        index: int,
        classifier: Classifier,
        images: Images,
        labels: Labels,
        defence: Classifier | None = None,
        scale: float | Tensor = 1.0,
    ) -> Images:
        """The whole batch as part `index` of the mixture: clean first, if that is a part, then under each attack."""
        if index < self.clean:
            return images
        spec = self.attacks[index - self.clean]
        return perturb(_target(spec, classifier, defence), images, labels, [spec], [len(images)], scale)


def _kind(spec: AttackSpec) -> tuple[str | int, ...]:
    kind = (spec.directed_at, spec.attack, spec.norm, spec.steps)
    return (*kind, spec.loss) if spec.directed_at == "classifier" else kind


def _target(spec: AttackSpec, classifier: Classifier, defence: Classifier | None) -> Classifier:
    if spec.directed_at == "classifier":
        return classifier
    if defence is None:
        raise ValueError("an attack directed at the defence needs one")
    return defence


def perturb(
    model: Classifier,
    images: Images,
    labels: Labels,
    kin: Sequence[AttackSpec],
    sizes: Sequence[int],
    scale: float | Tensor = 1.0,
    loss: Loss | None = None,
) -> Images:
    """Attack runs of images, each with its own spec's loss and `scale` times its radius; no wait for the device."""
    spec = kin[0]
    alike = loss is not None or len({k.loss for k in kin}) == 1
    loss = loss or (loss_of(spec.loss) if alike else _loss_of_runs([loss_of(k.loss) for k in kin], sizes))
    fast = None if alike else False
    eps = scale * per_image([k.eps for k in kin], sizes, images)
    if spec.attack in ("fgsm", "n-fgsm"):
        spread = NOISE_RADII * eps * within_ball(images, spec.norm) if spec.attack == "n-fgsm" else 0.0
        centre = (images + spread).clamp(0, 1)
        return ascend(model, centre, labels, centre, eps, eps, steps=1, norm=spec.norm, loss=loss, fast=fast).detach()
    start = (images + eps * within_ball(images, spec.norm)).clamp(0, 1)
    if spec.attack == "noise":
        return start
    annealed = spec.attack == "annealed"
    steps = [k.alpha or 2.5 * k.eps / k.steps for k in kin]
    alpha = eps if annealed else scale * per_image(steps, sizes, images)
    pace: Pace = annealing if annealed else steady
    return ascend(
        model, images, labels, start, eps, alpha, steps=spec.steps, norm=spec.norm, loss=loss, fast=fast, pace=pace
    ).detach()


def _loss_of_runs(losses: Sequence[Loss], sizes: Sequence[int]) -> Loss:
    """Each loss over its run of images."""

    def each(logits: Tensor, labels: Tensor) -> Tensor:
        runs = zip(losses, logits.split(list(sizes)), labels.split(list(sizes)), strict=True)
        return torch.cat([loss(*run) for loss, *run in runs])

    return each


def per_image(values: Sequence[float], sizes: Sequence[int], images: Images) -> Tensor:
    """Each value repeated over its run of images: (B, 1, 1, 1)."""
    runs = zip(values, sizes, strict=True)
    return torch.cat([images.new_full((size, 1, 1, 1), value) for value, size in runs])


def within_ball(images: Images, norm: Norm) -> Tensor:
    """Offsets drawn from the unit ball, shaped like the images: uniformly in Linf; else with a uniform radius."""
    like: Any = {"device": images.device, "dtype": images.dtype}
    if norm == "Linf":
        return 2 * drawn(lambda rows: torch.rand(rows, *images.shape[1:], **like), len(images)) - 1
    direction = drawn(lambda rows: torch.randn(rows, *images.shape[1:], **like), len(images))
    radius = drawn(lambda rows: torch.rand(rows, 1, 1, 1, **like), len(images))
    return direction / length(direction, norm) * radius
