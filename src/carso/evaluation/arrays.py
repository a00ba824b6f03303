"""Tensors as fields of records, held to their dimensions and range, so that a damaged file is found when it is read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeAlias

import torch
from pydantic import AfterValidator
from torch import Tensor


def _held(dimensions: int, dtype: torch.dtype | None, most: int, value: Tensor) -> Tensor:
    if value.ndim != dimensions:
        raise ValueError(f"must have {dimensions} dimensions, not the shape {tuple(value.shape)}")
    if dtype is not None and value.dtype != dtype:
        raise ValueError(f"must be {dtype}, not {value.dtype}")
    if value.numel() and not 0 <= value.min().item() <= value.max().item() <= most:
        raise ValueError(f"must lie between 0 and {most}")
    return value


def _array(dimensions: int, dtype: torch.dtype | None = None, most: int = 2**31) -> Callable[[Tensor], Tensor]:
    return partial(_held, dimensions, dtype, most)


Numbers: TypeAlias = Annotated[Tensor, AfterValidator(_array(1))]
"""One number per image (n,), not negative."""

Tables: TypeAlias = Annotated[Tensor, AfterValidator(_array(2))]
"""Several of them."""

Pictures: TypeAlias = Annotated[Tensor, AfterValidator(_array(4, torch.float32, 1))]
"""Images (n, C, H, W) in [0, 1]."""

Bytes: TypeAlias = Annotated[Tensor, AfterValidator(_array(4, torch.uint8, 255))]
"""Images (n, C, H, W) of bytes."""

Strips: TypeAlias = Annotated[Tensor, AfterValidator(_array(5, torch.uint8, 255))]
"""Several of them per image (n, k, C, H, W)."""


def check_alike(**tensors: Tensor | None) -> None:
    """Raise a ValueError unless all of them that there are have one length."""
    lengths = {name: len(tensor) for name, tensor in tensors.items() if tensor is not None}
    if len({*lengths.values()}) > 1:
        raise ValueError(f"differ in length: {lengths}")
