from __future__ import annotations

import pytest
import torch
from tests.rivals.conftest import CLASSES, CPU, SHAPE, accuracy, dataset
from torch import nn

from carso.errors import RecipeError
from carso.nn import MLP
from carso.rivals import ParsevalStage
from carso.rivals.parseval import matrix_of, retract
from carso.training.loop import Stage, beginning, fit
from carso.training.recipe import ClassifierTraining


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(), nn.Linear(24, 12), nn.Linear(12, 30))


def singular_values(module: nn.Module) -> list[torch.Tensor]:
    """Those of every affine layer's matrix, largest first."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    return [torch.linalg.svdvals(matrix_of(layer).detach()) for layer in layers]


def test_singular_values_approach_one() -> None:
    model = network()
    far = [(s - 1).abs().max() for s in singular_values(model)]
    for _ in range(200):
        retract(model, 0.1)
    for before, s in zip(far, singular_values(model), strict=True):
        assert (s - 1).abs().max() < 1e-3 < before


def test_a_step_moves_each_singular_value_by_the_formula() -> None:
    model = network()
    before = singular_values(model)
    retract(model, 0.02)
    for s, moved in zip(before, singular_values(model), strict=True):
        expected = (1.02 * s - 0.02 * s**3).sort(descending=True).values
        assert torch.allclose(moved, expected, atol=1e-5)


def test_a_step_is_descent_on_the_regulariser() -> None:
    layer, beta = nn.Linear(8, 5), 0.01
    w = layer.weight.detach().clone().requires_grad_()
    regulariser = beta / 4 * (w @ w.T - torch.eye(5)).square().sum()
    (slope,) = torch.autograd.grad(regulariser, w)
    retract(layer, beta)
    assert torch.allclose(layer.weight, w - slope, atol=1e-6)


def test_a_convolution_of_orthonormal_weights_stretches_nothing() -> None:
    convolution = nn.Conv2d(3, 8, 3, padding=1, bias=False)
    torch.manual_seed(0)
    for _ in range(300):
        retract(convolution, 0.1)
    basis = torch.eye(3 * 36).view(-1, 3, 6, 6)
    jacobian = convolution(basis).flatten(1)
    assert torch.linalg.matrix_norm(jacobian, 2) <= 1 + 1e-3
    assert matrix_of(convolution).shape == (8, 27)


def test_trained_with_it_weights_stay_near_orthonormal() -> None:
    def trained(beta: float) -> nn.Module:
        with beginning(0, "parseval"):
            model = MLP(SHAPE, (32,), CLASSES)
        training = ClassifierTraining(epochs=8, batch=64, rate=0.02)
        stage = ParsevalStage(model, training, dataset(), dataset(64, 3), CPU, beta=beta)
        assert isinstance(stage, Stage)
        fit(stage, 0, "f")
        assert accuracy(model) > 0.95
        return model

    def farthest(model: nn.Module) -> float:
        return max(float((s - 1).abs().max()) for s in singular_values(model))

    assert farthest(trained(0.1)) < 0.3 < farthest(trained(0.0))


def test_batches_in_portions_are_refused() -> None:
    schedule = ClassifierTraining(epochs=1, rate=0.1, accumulate=2)
    with pytest.raises(RecipeError, match="parseval: accumulate: the retraction is of a whole step"):
        ParsevalStage(MLP(SHAPE, (8,), CLASSES), schedule, dataset(), dataset(), CPU)
