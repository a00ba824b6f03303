from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from carso.fast.backpropagation import Backpropagation, _activate
from carso.fast.folding import ELEMENTWISE, fold
from carso.nn import MLP, Contrast


def thesis_like(activation: type[nn.Module] = nn.Mish) -> nn.Sequential:
    torch.manual_seed(0)
    model = MLP((1, 20, 20), hidden=(60, 40))
    for i, layer in enumerate(model):
        if isinstance(layer, nn.Mish):
            model[i] = activation()
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.uniform_(layer.weight, 0.5, 2)
            nn.init.uniform_(layer.running_mean, -1, 1)
    return model.eval()


def probe() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(32, 1, 20, 20, generator=generator)
    delta = 0.3 * torch.randn(32, 400, generator=generator)
    return images, delta, torch.randn(32, 10, generator=generator)


def reference(model: nn.Module, images: Tensor, delta: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    x = delta.clone().requires_grad_()
    logits = model(images + x.view_as(images))
    (gradient,) = torch.autograd.grad(logits, x, slope)
    return logits.detach(), gradient


@pytest.mark.parametrize("activation", ELEMENTWISE)
def test_float32_equals_autograd_to_rounding(activation: type[nn.Module]) -> None:
    model, (images, delta, slope) = thesis_like(activation), probe()
    logits, gradient = reference(model, images, delta, slope)
    ours = Backpropagation(fold(model), images)
    for _ in range(2):
        assert torch.allclose(ours.logits(delta), logits, rtol=1e-4, atol=1e-4)
        assert torch.allclose(
            ours.gradient(slope).flatten(1), gradient, rtol=1e-3, atol=1e-5 * gradient.abs().max().item()
        )


def test_a_linear_model_has_no_hidden_layer() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(400, 10)).eval()
    images, delta, slope = probe()
    logits, gradient = reference(model, images, delta, slope)
    ours = Backpropagation(fold(model), images)
    assert torch.allclose(ours.logits(delta), logits, atol=1e-5)
    assert torch.allclose(ours.gradient(slope).flatten(1), gradient, atol=1e-5)


@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-4), (torch.bfloat16, 0.02)])
def test_a_chain_behind_contrast_passes_its_gradient_by(dtype: torch.dtype, close: float) -> None:
    model, (images, delta, slope) = nn.Sequential(Contrast(0.3), thesis_like()), probe()
    logits, gradient = reference(model.eval(), images, delta, slope)
    ours = Backpropagation(fold(model), images, dtype)
    for _ in range(2):
        assert (ours.logits(delta.view_as(images)) - logits).abs().max() < close * logits.abs().max()
        found = ours.gradient(slope).float().flatten(1)
        assert (found - gradient).abs().max() < 2 * close * gradient.abs().max()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_minute_slope_is_pulled_back_as_exactly_as_one_of_size_one(dtype: torch.dtype) -> None:
    images, delta, slope = probe()
    ours = Backpropagation(fold(thesis_like()), images, dtype)
    ours.logits(delta)
    full = ours.gradient(slope).clone()
    powers = torch.arange(-110, 110, 220 / len(slope)).ceil()[:, None]
    minute = ours.gradient(slope * powers.exp2())
    assert torch.equal(minute, full * powers.exp2()[..., None, None].to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_below_the_least_normal_float_between_is_not_lost(dtype: torch.dtype) -> None:
    model, (images, delta, slope) = (
        nn.Sequential(nn.Flatten(), nn.Linear(400, 60), nn.Mish(), nn.Linear(60, 10)),
        probe(),
    )
    with torch.no_grad():
        model[1].weight *= 2.0**30
        model[3].weight *= 2.0**-30
    ours = Backpropagation(fold(model.eval()), images, dtype)
    ours.logits(delta)
    full = ours.gradient(slope).clone()
    assert torch.equal(ours.gradient(slope * 2.0**-110), full * 2.0**-110)


def test_the_largest_slopes_and_the_least_stay_finite() -> None:
    model, (images, delta, _) = thesis_like(), probe()
    slope = torch.zeros(32, 10)
    slope[:16, 3], slope[16:, 3] = 3e38, 1e-45
    ours = Backpropagation(fold(model), images)
    ours.logits(delta)
    found, (_, gradient) = ours.gradient(slope).flatten(1), reference(model, images, delta, slope / slope.amax(1, True))
    assert found.isfinite().all()
    assert torch.allclose(found[:16] / 3e38, gradient[:16], rtol=1e-3, atol=1e-5 * gradient.abs().max().item())


def test_no_slope_is_no_gradient() -> None:
    images, delta, slope = probe()
    ours = Backpropagation(fold(thesis_like()), images)
    ours.logits(delta)
    slope[0] = 0
    found = ours.gradient(slope)
    assert not found[0].any()
    assert found[1:].flatten(1).any(1).all()


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_bfloat16_keeps_the_direction_however_small_the_perturbation(scale: float) -> None:
    model, (images, delta, slope) = thesis_like(), probe()
    logits, gradient = reference(model, images, scale * delta, slope)
    ours = Backpropagation(fold(model), images, torch.bfloat16)
    assert (ours.logits(scale * delta) - logits).abs().max() < 0.02 * logits.abs().max()
    found = ours.gradient(slope).float().flatten(1)
    assert torch.nn.functional.cosine_similarity(found, gradient).min() > 0.999
    assert (found.sign() == gradient.sign()).float().mean() > 0.97


@pytest.mark.parametrize("activation", [*(kind() for kind in ELEMENTWISE), nn.ReLU(inplace=True), None])
def test_value_and_slope_of_every_non_linearity(activation: nn.Module | None) -> None:
    h = torch.cat([torch.linspace(-60, 60, 2401), torch.tensor([-1e4, -100.0, 100.0, 1e4])]).view(-1, 1)
    leaf = h.double().requires_grad_()
    expected = leaf.clone() if activation is None else activation.double()(leaf.clone())
    (slopes,) = torch.autograd.grad(expected.sum(), leaf)
    value, slope, *work = (h.clone() for _ in range(4))
    _activate(activation)(value, slope, *work)
    assert torch.allclose(value.double(), expected.detach(), rtol=1e-5, atol=1e-6)
    assert torch.allclose(slope.double(), slopes, rtol=1e-4, atol=1e-6)
