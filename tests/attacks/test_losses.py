from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from carso.attacks import annealed, apgd, fgsm, pgd, spsa
from carso.attacks.losses import LOSSES, cross_entropy, dlr, loss_of, margin, targeted_dlr
from carso.errors import ModelError
from carso.types import Budget

LOGITS = torch.tensor([[1.0, 4.0, 2.0, 0.0], [1.0, 4.0, 2.0, 0.0]])
LABELS = torch.tensor([1, 2])


def test_closed_forms() -> None:
    total = math.log(sum(math.exp(z) for z in (1, 4, 2, 0)))
    assert torch.allclose(cross_entropy(LOGITS, LABELS), torch.tensor([total - 4, total - 2]))
    assert torch.equal(margin(LOGITS, LABELS), torch.tensor([-2.0, 2.0]))
    assert torch.allclose(dlr(LOGITS, LABELS), torch.tensor([-2 / 3, 2 / 3]))


def test_dlr_matches_torchattacks() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(50, 10, generator=generator), torch.randint(10, (50,), generator=generator)
    theirs = torchattacks.APGD(torch.nn.Flatten()).dlr_loss(logits, labels)
    assert torch.allclose(dlr(logits, labels), theirs)


def test_targeted_dlr_in_closed_form() -> None:
    """z_(1) - (z_(3) + z_(4)) / 2 = 4 - 0.5."""
    targets = torch.tensor([1, 0])
    assert torch.allclose(targeted_dlr(LOGITS, targets), torch.tensor([-2 / 3.5, 3 / 3.5]))
    assert torch.equal(targeted_dlr(LOGITS, targets) < 0, LOGITS.argmax(1) == targets)
    with pytest.raises(ModelError, match="4 classes"):
        targeted_dlr(LOGITS[:, :3], targets)


def test_targeted_dlr_is_that_of_torchattacks_where_the_true_class_leads() -> None:
    torchattacks = pytest.importorskip("torchattacks")
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(50, 10, generator=generator), torch.randint(10, (50,), generator=generator)
    labels = logits.scatter(1, targets[:, None], -math.inf).argmax(1)
    attack = torchattacks.APGDT(torch.nn.Flatten())
    attack.y_target = targets
    assert torch.allclose(-targeted_dlr(logits, targets), attack.dlr_loss_targeted(logits, labels, targets))


def test_a_target_in_the_third_place_has_a_slope() -> None:
    logits, targets = LOGITS[:1].clone().requires_grad_(), torch.tensor([0])
    (slope,) = torch.autograd.grad(targeted_dlr(logits, targets).sum(), logits)
    (none,) = torch.autograd.grad(dlr(logits, targets).sum(), logits)
    assert slope[0, 0] < 0
    assert not none.any()


@pytest.mark.parametrize("attack", [apgd, annealed, fgsm, pgd, spsa])
def test_a_targeted_attack_descends_the_targeted_dlr(attack: Any) -> None:
    """What stands for its argument in the logits is what the attack refuses: three classes."""
    images, targets = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])

    def model(images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1)[:, :3]

    attack(model, images, targets, Budget("Linf", 0.1), loss="dlr")
    for loss in ("dlr", dlr):
        with pytest.raises(ModelError, match="4 classes"):
            attack(model, images, targets, Budget("Linf", 0.1), loss=loss, targeted=True)


@pytest.mark.parametrize("name", LOSSES)
def test_log_probabilities_serve_as_logits(name: str) -> None:
    assert torch.allclose(LOSSES[name](F.log_softmax(LOGITS, dim=1), LABELS), LOSSES[name](LOGITS, LABELS), atol=1e-6)


@pytest.mark.parametrize("loss", [margin, dlr])
def test_sign_tells_misclassification(loss: object) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 5, generator=generator), torch.randint(5, (200,), generator=generator)
    assert torch.equal(loss_of(loss)(logits, labels) > 0, logits.argmax(1) != labels)


def test_dlr_needs_three_classes() -> None:
    with pytest.raises(ModelError, match="3 classes"):
        dlr(LOGITS[:, :2], torch.tensor([0, 1]))


def test_unknown_loss_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"cross_entropy, margin, dlr.*'crossentropy'"):
        loss_of("crossentropy")
