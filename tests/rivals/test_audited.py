"""Every rival through the window of the audit, and one that has no gradient of its own audited."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from tests.audit.conftest import SIDE, blobs, cut_down, fitted
from tests.rivals.conftest import CLASSES, CPU, SHAPE, bars, dataset, schedule
from torch import nn

from carso.attacks import annealed
from carso.audit import audit
from carso.audit.target import target_of
from carso.nn import MLP
from carso.rivals import (
    DDPM,
    Augmented,
    Autoencoder,
    ConditionalVAE,
    DefenseGAN,
    Denoised,
    DiffusionPurified,
    Generator,
    PuVAE,
    PuVAEStage,
    Smoothed,
    UNet,
    WinnersTakeAll,
)
from carso.rivals.defense_gan import encoder
from carso.training.loop import beginning, fit
from carso.types import Budget

pytestmark = pytest.mark.whole

RIVALS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "puvae": lambda n: PuVAE(n, ConditionalVAE(SHAPE, CLASSES, 2, (8,))),
    "defense-gan": lambda n: DefenseGAN(n, Generator(SHAPE, 2, (8,)), encoder(SHAPE, 2, (8,)), steps=2, restarts=2),
    "denoising": lambda n: Denoised(n, Autoencoder(SHAPE, (8,), 4)),
    "augmentation": lambda n: Augmented(n, samples=3, shift=1),
    "smoothing": lambda n: Smoothed(n, sigma=0.5, samples=3),
    "winners": lambda n: WinnersTakeAll(n, 0.2),
    "diffusion": lambda n: DiffusionPurified(n, DDPM(UNet(1, 8), 50), t=0.2, steps=2),
}
PURIFYING, RANDOM = {"puvae", "defense-gan", "denoising", "diffusion"}, {"augmentation", "smoothing", "diffusion"}


@pytest.mark.parametrize("name", RIVALS)
def test_the_audit_sees_what_it_can_attack(name: str, classifier: nn.Module) -> None:
    images, _ = bars(8, 0)
    target = target_of(RIVALS[name](classifier), images)
    assert target.candidates is not None
    assert target.candidates(images, 2).shape == (8, 2, CLASSES)
    assert (target.purify is not None) == (target.classifier is not None) == (name in PURIFYING)
    assert target.random_surrogate == (name in RANDOM)
    assert target.random == (name in RANDOM | {"defense-gan"})
    assert target.repeatable


def test_an_audit_of_a_rival_whose_choice_has_no_gradient(
    classifier: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    with beginning(0, "puvae"):
        rival = PuVAE(classifier, ConditionalVAE(SHAPE, CLASSES, latent=4, hidden=(64,)))
    fit(PuVAEStage(rival, schedule(), dataset(), dataset(64, 3), CPU), 0, "f")
    cut_down(monkeypatch)
    found = audit(rival, dataset(60, 2), effort="quick", eps=(0.4,)).budgets[0]
    left = {attack.name: attack.result.accuracy for attack in found.attacks}
    assert found.clean.accuracy > 95
    assert {"bpda", "pgd-annealed", "square"} <= left.keys()
    assert found.worst_case.accuracy < left["noise"] - 30


def test_winners_fall_to_their_blend_where_their_own_gradient_leads_nowhere() -> None:
    torch.manual_seed(0)
    rival = fitted(WinnersTakeAll(MLP((1, SIDE, SIDE), (200, 100)), 0.1), 8)
    images, labels = blobs(100, seed=2)

    def left(model: Callable[..., torch.Tensor]) -> float:
        attacked = annealed(model, images, labels, Budget("Linf", 0.05), steps=40)
        return float((rival(attacked).argmax(1) == labels).float().mean())

    assert left(rival.surrogate) < left(rival) - 0.3
