"""AutoAttack's own code, for which a stand-in takes one step along the averaged gradient."""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from carso.audit.autoattack import autoattack, unguarded
from carso.audit.effort import SIZES
from carso.audit.neighbours import Neighbours
from carso.audit.plan import Attempt, Tuning, plan
from carso.audit.target import target_of
from carso.errors import ModelError, NonFiniteError
from carso.types import Budget

BUDGET = Budget("Linf", 0.1)


class Step:
    """What pyautoattack.AutoAttack looks like to its caller."""

    def __init__(self, model: nn.Module, *, norm: str, eps: float, version: str, device: Any, seed: int) -> None:
        self.model, self.eps, self.seed = model, eps, seed
        self.apgd = SimpleNamespace(eot_iter=20 if version == "rand" else 1)

    def run_standard_evaluation(self, images: Tensor, labels: Tensor, *, batch_size: int) -> tuple[Tensor, Tensor]:
        assert batch_size == len(images)
        total = torch.zeros_like(images)
        for _ in range(self.apgd.eot_iter):
            x = images.clone().requires_grad_()
            loss = nn.functional.cross_entropy(self.model(x), labels, reduction="sum")
            total += torch.autograd.grad(loss, x)[0]
        return images + 2 * self.eps * total.sign(), labels


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("pyautoattack")
    module.__spec__ = ModuleSpec("pyautoattack", None)
    monkeypatch.setattr(module, "AutoAttack", Step, raising=False)
    monkeypatch.setitem(sys.modules, "pyautoattack", module)


class Sometimes(nn.Module):
    """Two logits, whose gradient is NaN in every third call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1).sum(1)
        self.calls += 1
        nothing = 0 * torch.sqrt(0 * x) if self.calls % 3 == 0 else 0 * x
        return torch.stack([x + nothing, -x], dim=1)


def test_one_nan_among_the_averaged_gradients_is_enough_to_stand_still() -> None:
    """Guarded, it counts as zero, and the others go on."""
    images, labels = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.long)
    assert torch.equal(unguarded(Sometimes(), images, labels, BUDGET, "rand", seed=0), images)
    with pytest.raises(NonFiniteError) as caught:
        autoattack(Sometimes(), images, labels, BUDGET, version="rand")
    torch.testing.assert_close(caught.value.found, images - 0.1)


def test_its_number_of_gradients_may_be_chosen() -> None:
    images, labels, model = torch.full((2, 1, 2, 2), 0.5), torch.zeros(2, dtype=torch.long), Sometimes()
    found = unguarded(model, images, labels, BUDGET, "rand", seed=0, eot=2)
    assert model.calls == 2
    torch.testing.assert_close(found, images - 0.2)


def test_an_audit_says_why_it_goes_without(monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_of(nn.Sequential(nn.Flatten(), nn.Linear(4, 3)), torch.rand(4, 1, 2, 2))
    sizes = replace(SIZES["quick"], autoattack=True)

    def last() -> Attempt:
        return list(
            plan(
                target,
                BUDGET,
                sizes,
                Tuning(),
                {},
                Neighbours(torch.rand(4, 1, 2, 2), torch.zeros(4).long()),
                blind=False,
            )
        )[-1]

    assert last().options == {"left_out": "its version for such targets needs 10 classes"}
    monkeypatch.setattr("carso.audit.plan.LEAST_CLASSES", {"standard": 3})
    assert last().options == {"version": "standard"}
    monkeypatch.setattr("carso.audit.plan.is_installed", lambda: False)
    assert (last().name, last().rounds) == ("autoattack", ())
    assert last().options == {"left_out": "AutoAttack needs the extra: pip install 'carso[audit]'"}


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.audit.autoattack.is_installed", lambda: False)
    with pytest.raises(ModelError, match=r"pip install 'carso\[audit\]'"):
        unguarded(Sometimes(), torch.zeros(1, 1, 2, 2), torch.zeros(1, dtype=torch.long), BUDGET, "rand", 0)
