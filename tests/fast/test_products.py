import pytest
import torch
from torch import nn
from torch.nn import functional as F

from carso.fast.products import Packed, full_precision, product, product_dtype, reduced

ACTIVATIONS = [None, nn.LeakyReLU(0.3), nn.ReLU(), nn.Sigmoid(), nn.Tanh(), nn.Mish(), nn.GELU()]


def layer(inputs: int = 90, outputs: int = 70) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(outputs, inputs) / inputs**0.5, torch.randn(outputs)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("one_dnn", [True, False])
def test_float32_is_the_layer(activation: nn.Module | None, one_dnn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not one_dnn:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    (weight, bias), rows = layer(), torch.randn(33, 90)
    expected = F.linear(rows, weight, bias)
    expected = expected if activation is None else activation(expected)
    torch.testing.assert_close(Packed(weight, bias, torch.float32, activation)(rows), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_bfloat16_is_the_layer_to_eight_bits(activation: nn.Module | None) -> None:
    (weight, bias), rows = layer(), torch.randn(33, 90)
    exact = Packed(weight, bias, torch.float32, activation)(rows)
    rounded = Packed(weight, bias, torch.bfloat16, activation)(rows).float()
    assert 0 < (rounded - exact).abs().max() < 0.05


@pytest.mark.parametrize(
    ("units", "dtype"),
    [
        ({}, torch.float32),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": False}, torch.float32),
        ({"cpu_name": "AMD EPYC", "avx512_bf16": True}, torch.bfloat16),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, torch.bfloat16),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, torch.float32),
    ],
)
def test_bfloat16_is_chosen_where_its_units_are_the_faster(
    units: dict[str, bool | str], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    assert product_dtype(torch.device("cpu")) is dtype
    assert product_dtype(torch.device("meta")) is torch.float32
    with full_precision():
        assert product_dtype(torch.device("cpu")) is torch.float32


def test_few_weights_stay_float32() -> None:
    weight, bias = layer(20, 10)
    assert Packed(weight, bias, torch.bfloat16)(torch.randn(3, 20)).dtype is torch.float32


@pytest.mark.parametrize("one_dnn", [True, False])
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_a_product_multiplies(
    dtype: torch.dtype, within: float, one_dnn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not one_dnn:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    rows, weight, out = torch.randn(33, 90).to(dtype), layer()[0].to(dtype), torch.empty(33, 70, dtype=dtype)
    found = product(rows, weight, out)
    torch.testing.assert_close(found.double(), rows.double() @ weight.double().T, rtol=0, atol=within)
    assert (found is out) == (dtype is torch.bfloat16 or not one_dnn)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_network_in_half_or_double_precision_is_not_reduced(dtype: torch.dtype) -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.GroupNorm(2, 2), nn.BatchNorm2d(2), nn.Flatten()).to(dtype).eval()
    images = torch.rand(2, 1, 3, 3)
    assert torch.equal(reduced(network)(images), network(images.to(dtype)).float())
