"""Affine maps of frozen weights, with the matrix products in a dtype of one's choice.

    h = W a + b,    dL/da = W' dL/dh        W, b frozen: they get no gradient

Weights are converted once, activations on the way in and out; sums with b and all non-linearities stay in float32.

`Packed` multiplies by oneDNN, whose float32 products are full float32 (sums in another order) and over twice as fast
as MKL's, torch's own choice, on processors that MKL does not favour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carso.fast.mish import mish
from carso.nn.querying import as_taken, uncast

SMALL = 4096
"""Weights with fewer entries are multiplied in float32: their products are not worth a conversion."""

USUAL = 512
"""Rows for which oneDNN lays out its copy of a weight."""

_EXACT: ContextVar[bool] = ContextVar("exact", default=False)


@contextmanager
def full_precision() -> Iterator[None]:
    """A context in which products are those of a processor without bfloat16 units."""
    token = _EXACT.set(True)
    try:
        yield
    finally:
        _EXACT.reset(token)


def product_dtype(device: torch.device) -> torch.dtype:
    """Bfloat16 on a CPU whose units multiply it faster than float32, else float32.

    AMX does, and so does AVX512-BF16, except on Intel's processors without AMX, where products of bfloat16 take 1.8
    times as long.
    """
    if _EXACT.get() or device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return torch.float32
    units = torch.cpu.get_capabilities()
    by_vectors = units.get("avx512_bf16") and not str(units.get("cpu_name", "")).startswith("Intel")
    return torch.bfloat16 if units.get("amx_bf16") or by_vectors else torch.float32


def low_precision(device: torch.device) -> torch.autocast:
    """A context in which products are bfloat16 where that is faster; weights and gradients stay float32.

    On a GPU nothing is kept from one product to the next, so that a step can be recorded as a graph.
    """
    on_gpu = device.type == "cuda" and not _EXACT.get() and torch.cuda.is_bf16_supported()
    enabled = on_gpu or product_dtype(device) is torch.bfloat16
    return torch.autocast(device.type, torch.bfloat16, enabled=enabled, cache_enabled=not on_gpu)


def reduced(model: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The model with its matrix products in bfloat16 where that is faster; float32 comes out.

    A module of another dtype than float32 gets images in its own.
    """

    def fast(images: Tensor, **options: Any) -> Tensor:
        images = as_taken(model, images)
        with low_precision(images.device), uncast(model, images.device):
            logits = model(images, **options)
        return logits.float()

    return fast


class Reduced:
    """A classifier as `reduced` makes it.

    Args:
        exact: the classifier itself.
    """

    def __init__(self, exact: Callable[..., Tensor]) -> None:
        self.exact, self.low = exact, reduced(exact)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W), in float32."""
        return self.low(images)


class Packed:
    """phi(W a + b) of rows a (B, inputs), without gradient: by oneDNN on a CPU that it serves, else by torch's product.

    Args:
        weight: W (outputs, inputs).
        bias: b (outputs,).
        dtype: of rows and product, whose sums are float32 within; weights with few entries stay float32.
        activation: phi; oneDNN applies LeakyReLU, ReLU, Sigmoid and Tanh inside the product, all else is float32.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype, activation: nn.Module | None = None) -> None:
        dtype = torch.float32 if weight.numel() < SMALL else dtype
        self.dtype, self.bias = dtype, bias.detach().to(dtype)
        self.weight = weight.detach().to(dtype).contiguous()
        self.fused, self.scalars = _fused(activation) if _packs(weight.device, dtype) else ("", [])
        if self.fused:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, USUAL)
        self.after = mish if isinstance(activation, nn.Mish) else activation if self.fused in ("", "none") else None

    def __call__(self, rows: Tensor) -> Tensor:
        """(B, outputs), in the dtype of the product, or in float32 where phi is not part of it."""
        rows = rows.to(self.dtype)
        if self.fused:
            multiply = torch.ops.mkldnn._linear_pointwise
            mapped: Tensor = multiply(rows, self.weight, self.bias, self.fused, self.scalars, "")
        else:
            mapped = F.linear(rows, self.weight, self.bias)
        return mapped if self.after is None else self.after(mapped.float())


def product(rows: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    """W a, in `out` or elsewhere, without gradient: rows a (B, inputs), W (outputs, inputs), all of one dtype.

    Torch hands bfloat16 to oneDNN by itself, and float32 to MKL; oneDNN's own operator knows no `out`.
    """
    if rows.dtype is torch.float32 and rows.device.type == "cpu" and torch.backends.mkldnn.is_available():
        multiplied: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, None, "none", [], "")
        return multiplied
    return torch.mm(rows, weight.T, out=out)


def _packs(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies by packed weights there; bfloat16 asks for AVX-512 or better."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return dtype is not torch.bfloat16 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _fused(activation: nn.Module | None) -> tuple[str, list[float]]:
    """oneDNN's name of a non-linearity, "none" if it has none, and its parameters."""
    if isinstance(activation, nn.LeakyReLU):
        return "leaky_relu", [activation.negative_slope]
    return {nn.ReLU: "relu", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh"}.get(type(activation), "none"), []


class Affine:
    """W a + b of rows a (B, inputs), differentiable in them only.

    Args:
        weight: W (outputs, inputs), float32.
        bias: b (outputs,).
        dtype: of the products.
    """

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        self.weight = weight.detach() if weight.numel() < SMALL else weight.detach().to(dtype)
        self.bias = bias.detach()

    def __call__(self, rows: Tensor) -> Tensor:
        """(B, outputs), float32."""
        if self.weight.dtype == rows.dtype:
            return F.linear(rows, self.weight, self.bias)
        mapped: Tensor = _Product.apply(rows, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return mapped


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.weight, ctx.dtype = weight, rows.dtype
        return torch.mm(rows.to(weight.dtype), weight.T).to(rows.dtype).add_(bias)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        return torch.mm(slopes[0].to(ctx.weight.dtype), ctx.weight).to(ctx.dtype), None, None
