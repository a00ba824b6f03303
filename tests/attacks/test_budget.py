from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from carso.attacks.budget import bounded, confine
from carso.errors import CarsoError, ModelError
from carso.types import Budget

PIXELS = 6
SPECIAL = [0.0, 1e-45, 1e-38, 2.0**-24, 0.1, 0.5, 1 - 2.0**-24, 1.0]
pixel = st.sampled_from(SPECIAL) | st.floats(0, 1, width=32)
pixels = st.lists(pixel, min_size=PIXELS, max_size=PIXELS)
proposals = st.lists(st.floats(width=32) | pixel, min_size=PIXELS, max_size=PIXELS)
radius = (
    st.floats(1e-48, 1e40)
    | st.floats(1e-4, 1)
    | st.sampled_from([0.15, 0.3, 0.5, 8 / 255, 2.0**-24, 1e-45, 5e-324, 1.7e308])
)


def batch_of(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, 1, 2, 3)


def differences(a: Tensor, b: Tensor) -> list[Fraction]:
    return [Fraction(p) - Fraction(q) for p, q in zip(a.flatten().tolist(), b.flatten().tolist(), strict=True)]


def largest_float32(value: float) -> float:
    nearest = np.float32(value)
    return float(nearest if float(nearest) <= value else np.nextafter(nearest, np.float32(-1)))


@settings(deadline=None)
@given(pixels, proposals, radius)
def test_linf_holds_in_every_arithmetic(clean: list[float], proposal: list[float], eps: float) -> None:
    images = batch_of(clean)
    adversarial = confine(batch_of(proposal), images, Budget("Linf", eps))
    assert adversarial.dtype == torch.float32
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert all(abs(delta) <= Fraction(eps) for delta in differences(adversarial, images))
    assert (adversarial - images).abs().max().item() <= eps
    assert (adversarial.double() - images.double()).abs().max().item() <= eps
    assert bool(np.all(np.abs(adversarial.numpy() - images.numpy()) <= min(eps, 2)))


@settings(deadline=None)
@given(pixels, radius)
def test_linf_bounds_are_the_outermost_floats(clean: list[float], eps: float) -> None:
    images = batch_of(clean)
    low, high = (confine(images + side * torch.inf, images, Budget("Linf", eps)) for side in (-1, 1))
    above, below = torch.nextafter(high, torch.tensor(2.0)), torch.nextafter(low, torch.tensor(-1.0))
    radius = largest_float32(min(eps, 1.0))
    assert all(d > radius for d, h in zip(differences(above, images), high.flatten(), strict=True) if h < 1)
    assert all(d < -radius for d, v in zip(differences(below, images), low.flatten(), strict=True) if v > 0)


@settings(deadline=None)
@given(pixels, proposals, radius)
def test_l2_holds_in_every_arithmetic(clean: list[float], proposal: list[float], eps: float) -> None:
    images = batch_of(clean)
    adversarial = confine(batch_of(proposal), images, Budget("L2", eps))
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert sum(delta**2 for delta in differences(adversarial, images)) <= Fraction(eps) ** 2
    assert (adversarial - images).norm().item() <= eps
    assert (adversarial - images).square().sum().sqrt().item() <= eps
    assert np.linalg.norm((adversarial - images).numpy()) <= min(eps, 9)


@settings(deadline=None)
@given(pixels, proposals, radius)
def test_l1_holds_in_every_arithmetic(clean: list[float], proposal: list[float], eps: float) -> None:
    images = batch_of(clean)
    adversarial = confine(batch_of(proposal), images, Budget("L1", eps))
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    assert sum(map(abs, differences(adversarial, images))) <= Fraction(eps)
    assert (adversarial - images).abs().sum().item() <= eps
    assert np.abs((adversarial - images).numpy()).sum() <= min(eps, 9)


@pytest.mark.parametrize("pixels", [784, 3 * 224 * 224])
@pytest.mark.parametrize("eps", [1e-3, 0.5, 3.0])
def test_l2_holds_for_float32_norms_of_large_images(pixels: int, eps: float) -> None:
    images = torch.full((2, 1, 1, pixels), 0.3)
    images[1] = torch.rand(pixels, generator=torch.Generator().manual_seed(0))
    adversarial = confine(images + 0.7, images, Budget("L2", eps))
    delta = (adversarial - images).flatten(1)
    exact = delta.double().norm(dim=1)
    assert (exact > 0.99 * eps).all() or eps == 1e-3  # float32 pixels cannot all move by 1e-3 / 388
    for norm in (
        delta.norm(dim=1),
        delta.square().sum(1).sqrt(),
        torch.tensor([np.linalg.norm(d) for d in delta.numpy()]),
    ):
        assert norm.max().item() <= eps


@settings(deadline=None)
@given(pixels, proposals, radius, st.sampled_from(["Linf", "L2", "L1"]))
def test_confined_images_are_left_alone(clean: list[float], proposal: list[float], eps: float, norm: str) -> None:
    images, budget = batch_of(clean), Budget(norm, eps)
    once = confine(batch_of(proposal), images, budget)
    again = confine(once, images, budget)
    if norm == "Linf":
        assert torch.equal(once, again)
    else:
        assert (once - again).abs().max() <= 1e-6
    assert torch.equal(confine(images, images, budget), images)


@settings(deadline=None)
@given(pixels, st.floats(0.01, 1), st.sampled_from(["Linf", "L2", "L1"]))
def test_points_well_inside_are_unchanged(clean: list[float], eps: float, norm: str) -> None:
    images = batch_of(clean)
    inside = (
        images + (0.15 if norm == "L1" else 0.4) * eps * torch.tensor([1.0, -1, 1, -1, 1, -1]).view(1, 1, 2, 3)
    ).clamp(0, 1)
    assert torch.equal(confine(inside, images, Budget(norm, eps)), inside)


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_a_proposal_of_double_precision_is_held_in_single(norm: str) -> None:
    images = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    proposal, budget = images.double() + 0.3, Budget(norm, 0.3)
    adversarial = confine(proposal, images, budget)
    assert adversarial.dtype is torch.float32
    assert torch.equal(adversarial, confine(proposal.float(), images, budget))


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_nan_becomes_the_clean_pixel(norm: str) -> None:
    images = torch.full((1, 1, 2, 2), 0.5)
    proposal = torch.tensor([[[[float("nan"), 0.6], [float("inf"), float("-inf")]]]])
    adversarial = confine(proposal, images, Budget(norm, 10.0))
    assert torch.equal(adversarial.flatten(), torch.tensor([0.5, 0.6, 1.0, 0.0]))


@bounded
def greedy(model: object, images: Tensor, labels: Tensor, budget: Budget, *, value: float = 7.0) -> Tensor:
    return images + value


def linear(pixels: int = 4, classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes))


IMAGES, LABELS = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 2])


def test_any_attack_is_confined() -> None:
    assert torch.equal(greedy(linear(), IMAGES, LABELS, Budget("Linf", 0.25)), IMAGES + 0.25)


def test_an_attack_that_returns_nan_is_an_error() -> None:
    with pytest.raises(ModelError, match="greedy met NaN"):
        greedy(linear(), IMAGES, LABELS, Budget("Linf", 0.25), value=float("nan"))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[0], "shape"),
        (IMAGES.double(), "float32"),
        ((IMAGES * 255).byte(), "float"),
        (IMAGES + 1, r"1\.5"),
        (IMAGES - 1, r"-0\.5"),
        (IMAGES * float("nan"), "nan"),
        (IMAGES[:0], "empty|shape"),
    ],
)
def test_wrong_images_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises((ValueError, CarsoError), match=message):
        greedy(linear(), images, LABELS, Budget("Linf", 0.25))


@pytest.mark.whole
@pytest.mark.parametrize("budget", [("Linf", 0.25), 0.25, None])
def test_what_is_no_budget_is_refused(budget: Any) -> None:
    with pytest.raises(ValueError, match=r"budget must be a carso\.Budget\(norm, eps\), not "):
        greedy(linear(), IMAGES, LABELS, budget)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 3]), r"\[0, 3\)"),
        (torch.tensor([-1, 0]), "-1"),
        (torch.tensor([0.0, 1.0]), "integers"),
        (torch.tensor([0]), r"\(2,\)"),
        (torch.tensor([[0, 1]]), r"\(1, 2\)"),
    ],
)
def test_wrong_labels_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        greedy(linear(), IMAGES, labels, Budget("Linf", 0.25))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda x: x, r"\(2, 1, 2, 2\)"),
        (lambda x: x.flatten(1).sum(1), r"\(2,\)"),
        (lambda x: x.flatten(1)[:, :1], "classes >= 2"),
        (lambda x: [x], "list"),
        (lambda x: x.flatten(1) / 0, "finite"),
        (lambda x: x.flatten(1).long(), "int64"),
    ],
)
def test_wrong_models_are_refused(model: object, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        greedy(model, IMAGES, LABELS, Budget("Linf", 0.25))
