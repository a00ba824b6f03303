"""Attacks on anything from images to logits: `attack(model, images, labels, budget, generator=...) -> images`."""

from collections.abc import Callable

from torch import Tensor

from carso.attacks.budget import Attack, confine
from carso.attacks.deepfool import deepfool
from carso.attacks.gradient import fgsm, pgd

ATTACKS: dict[str, Callable[..., Tensor]] = {"fgsm": fgsm, "pgd": pgd, "deepfool": deepfool}
"""Every attack by its name; beyond the arguments of `Attack`, each takes options of its own."""

__all__ = ["ATTACKS", "Attack", "confine", "deepfool", "fgsm", "pgd"]
