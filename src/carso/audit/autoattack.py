"""AutoAttack, by its published code, where the extra `audit` is installed.

Its own verdict is a single noisy evaluation per image, the luckiest of many for a random model. Here it only crafts
images; whether they count is decided by fresh verdicts.

Source: F. Croce and M. Hein, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks", ICML 2020; package pyautoattack 0.2.0.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from typing import Literal, TypeAlias

import torch
from torch import Generator, Tensor, nn

from carso.attacks.budget import bounded
from carso.attacks.losses import DLR_CLASSES
from carso.errors import ModelError
from carso.types import Budget, Classifier, Images, Labels

Version: TypeAlias = Literal["standard", "rand"]

MISSING = "AutoAttack needs the extra: pip install 'carso[audit]'"

LEAST_CLASSES = {"standard": 10, "rand": DLR_CLASSES}
"""Classes that each version needs: nine rivals for its targeted attacks, or a third logit for the DLR loss."""


def is_installed() -> bool:
    """Whether pyautoattack can be imported."""
    return importlib.util.find_spec("pyautoattack") is not None


@bounded
def autoattack(
    model: Classifier,
    images: Images,
    labels: Labels,
    budget: Budget,
    *,
    version: Version = "standard",
    generator: Generator | None = None,
) -> Images:
    """Images crafted by AutoAttack, confined to the budget.

    Args:
        model: images to logits; its gradient is followed.
        images: (B, C, H, W) in [0, 1].
        labels: true classes.
        budget: norm and radius.
        version: "standard" for deterministic models, "rand" for random ones.
        generator: decides AutoAttack's seed.

    Raises:
        ModelError: if pyautoattack is not installed.
    """
    return unguarded(model, images, labels, budget, version, int(torch.randint(2**31, (), generator=generator)))


def unguarded(
    model: Classifier, images: Images, labels: Labels, budget: Budget, version: Version, seed: int, eot: int = 20
) -> Images:
    """AutoAttack as published: NaN gradients stay NaN, and its images are not projected into the budget again.

    Args:
        model: images to logits.
        images: (B, C, H, W) in [0, 1].
        labels: true classes.
        budget: norm and radius.
        version: see `autoattack`.
        seed: AutoAttack's.
        eot: gradients that "rand" averages; 20 are its own.

    Raises:
        ModelError: if pyautoattack is not installed.
    """
    if not is_installed():
        raise ModelError(MISSING)
    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    attack = importlib.import_module("pyautoattack").AutoAttack(
        _Module(model), norm=budget.norm, eps=budget.eps, version=version, device=images.device, seed=seed
    )
    if version == "rand":
        attack.apgd.eot_iter = eot
    found: Tensor
    found, _ = attack.run_standard_evaluation(images, labels, batch_size=len(images))
    return found


class _Module(nn.Module):
    """A callable in the shape that AutoAttack expects."""

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)
