from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from carso.attacks.losses import LOSSES, cross_entropy, dlr, loss_of, margin
from carso.errors import ModelError

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
