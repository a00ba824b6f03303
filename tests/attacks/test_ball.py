import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from carso.attacks.ball import Ball, foremost, project, shrunk, spent, unit
from carso.attacks.budget import length


def images(count: int = 4, pixels: int = 6) -> Tensor:
    return torch.rand(count, 1, 1, pixels, generator=torch.Generator().manual_seed(0))


def nearest(delta: np.ndarray, image: np.ndarray, eps: float) -> np.ndarray:
    """By another library: the least distance subject to the box and to the sum of the absolute values, in two parts."""
    pixels = len(delta)
    start = np.zeros(2 * pixels)

    def distance(parts: np.ndarray) -> float:
        return float(((parts[:pixels] - parts[pixels:] - delta) ** 2).sum())

    bounds = [(0, 1 - x) for x in image] + [(0, x) for x in image]
    within = {"type": "ineq", "fun": lambda parts: eps - parts.sum()}
    found = minimize(distance, start, bounds=bounds, constraints=[within], method="SLSQP", tol=1e-12).x
    return np.asarray(found[:pixels] - found[pixels:])


@pytest.mark.parametrize("eps", [0.3, 1.0, 5.0])
def test_the_projection_in_l1_is_the_nearest_point_of_ball_and_box(eps: float) -> None:
    clean = images()
    moved = clean + torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    found = (project(moved, clean, eps, "L1") - clean).flatten(1)
    for delta, image, ours in zip((moved - clean).flatten(1), clean.flatten(1), found, strict=True):
        theirs = nearest(delta.double().numpy(), image.double().numpy(), eps)
        assert torch.allclose(ours.double(), torch.from_numpy(theirs), atol=2e-4)


def test_the_projection_in_l1_leaves_alone_what_is_inside() -> None:
    clean = images()
    inside = (clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    assert torch.allclose(project(inside, clean, 3.0, "L1"), inside, atol=1e-7)
    mixed = project(torch.cat([inside, clean + 3]), torch.cat([clean, clean]), 0.5, "L1")
    assert torch.allclose(mixed[:4], project(inside, clean, 0.5, "L1"), atol=1e-7)


def test_the_projection_in_l1_asks_nothing_of_a_device_that_is_not_the_cpu() -> None:
    x, eps = torch.empty(2, 1, 4, 4, device="meta"), torch.empty(2, 1, 1, 1, device="meta")
    assert shrunk(x, -x, 1 - x, eps).is_meta


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_a_step_is_of_unit_length_and_none_where_there_is_no_gradient(norm: str) -> None:
    gradient = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(3))
    gradient[1] = 0
    step = unit(gradient, norm).flatten(1)
    sizes = step.norm(p={"Linf": torch.inf, "L2": 2, "L1": 1}[norm], dim=1)
    assert torch.allclose(sizes, torch.tensor([1.0, 0.0, 1.0]))
    assert ((step * gradient.flatten(1)).sum(1) >= 0).all()


def test_a_step_in_l1_goes_along_the_fiftieth_of_the_largest_that_can_move() -> None:
    gradient = torch.randn(2, 1, 10, 20, generator=torch.Generator().manual_seed(4))
    assert unit(gradient, "L1").ne(0).sum((1, 2, 3)).eq(4).all()
    assert unit(gradient, "L1").ne(0).equal(foremost(gradient, 0.02).ne(0))
    white = torch.ones_like(gradient)
    assert unit(gradient, "L1", white).max() <= 0
    assert unit(gradient, "L1", torch.zeros_like(gradient)).min() >= 0
    assert length(unit(gradient, "L1", white), "L1").allclose(torch.ones(2, 1, 1, 1))


def test_an_amount_is_spent_on_the_largest_first_and_none_beyond_its_wall() -> None:
    gradient = torch.tensor([[3.0, -2.0, 1.0, 0.0], [1.0, -4.0, 2.0, 3.0]]).view(2, 1, 1, 4)
    low, high = torch.full((2, 1, 1, 4), -0.25), torch.full((2, 1, 1, 4), 0.125)
    step = spent(gradient, low, high, torch.tensor([0.5, 0.75]).view(2, 1, 1, 1), share=0.5)
    assert step.flatten(1).tolist() == [[0.125, -0.25, 0.125, 0], [0.125, -0.25, 0.125, 0.125]]
    few = spent(gradient, low, high, 0.3, share=0.25)
    torch.testing.assert_close(few.flatten(1), torch.tensor([[0.125, -0.175, 0, 0], [0, -0.25, 0, 0.05]]))


def test_without_walls_what_is_spent_is_a_unit_step() -> None:
    gradient = torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(6))
    step = spent(gradient, torch.full_like(gradient, -9), torch.full_like(gradient, 9), 0.7)
    torch.testing.assert_close(step, 0.7 * unit(gradient, "L1"))


@pytest.mark.parametrize("norm", ["Linf", "L2", "L1"])
def test_the_ball_in_place_steps_as_the_functions_do(norm: str) -> None:
    clean = images(5, 40)
    generator = torch.Generator().manual_seed(5)
    delta = 0.02 * torch.randn(clean.shape, generator=generator)
    delta = (clean + delta).clamp(0, 1) - clean
    gradient, eps = torch.randn(clean.shape, generator=generator), torch.full((5, 1, 1, 1), 0.4)
    at = clean + delta
    moved = spent(gradient, -at, 1 - at, 0.3) if norm == "L1" else 0.3 * unit(gradient, norm, at)
    expected = project(at + moved, clean, eps, norm) - clean
    Ball(clean, eps, norm).step_(delta, gradient, torch.full((5, 1, 1, 1), 0.3))
    assert torch.allclose(delta, expected, atol=1e-6)
