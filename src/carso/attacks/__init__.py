"""Attacks on anything from images to logits: `attack(model, images, labels, budget, generator=...) -> images`."""

from collections.abc import Callable

from torch import Tensor

from carso.attacks.anneal import annealed
from carso.attacks.apgd import apgd
from carso.attacks.budget import Attack, confine
from carso.attacks.deepfool import deepfool
from carso.attacks.estimate import spsa
from carso.attacks.gradient import fgsm, pgd
from carso.attacks.noise import noise
from carso.attacks.spatial import spatial
from carso.attacks.square import square

ATTACKS: dict[str, Callable[..., Tensor]] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "deepfool": deepfool,
    "apgd": apgd,
    "pgd-eot": annealed,
    "square": square,
    "spsa": spsa,
    "noise": noise,
}
"""Every attack in a ball by its name; beyond the arguments of `Attack`, each takes options of its own."""

__all__ = [
    "ATTACKS",
    "Attack",
    "annealed",
    "apgd",
    "confine",
    "deepfool",
    "fgsm",
    "noise",
    "pgd",
    "spatial",
    "spsa",
    "square",
]
