"""Affine maps of frozen weights, with the matrix products in a dtype of one's choice.

    h = W a + b,    dL/da = W' dL/dh        W, b frozen: they get no gradient

Weights are converted once, activations on the way in and out; sums with b and all non-linearities stay in float32.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SMALL = 4096
"""Weights with fewer entries are multiplied in float32: their products are not worth a conversion."""


def product_dtype(device: torch.device) -> torch.dtype:
    """Bfloat16 on a CPU with units for it (AMX, AVX512-BF16), else float32."""
    if device.type != "cpu" or not hasattr(torch.cpu, "get_capabilities"):
        return torch.float32
    capabilities = torch.cpu.get_capabilities()
    return torch.bfloat16 if capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") else torch.float32


def low_precision(device: torch.device) -> torch.autocast:
    """A context in which matrix products run in `product_dtype`; weights and their gradients stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=product_dtype(device) is torch.bfloat16)


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
        product: Tensor = _Product.apply(rows, self.weight, self.bias)  # type: ignore[no-untyped-call]
        return product


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.weight, ctx.dtype = weight, rows.dtype
        return torch.mm(rows.to(weight.dtype), weight.T).to(rows.dtype).add_(bias)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None]:
        return torch.mm(slopes[0].to(ctx.weight.dtype), ctx.weight).to(ctx.dtype), None, None
