"""Tensors as fields of records, held to their dimensions and range, so that a damaged file is found when it is read.

In a file's JSON a tensor is {"$tensor": its name}; the tensors themselves are the context of the validation.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import torch
from pydantic import PlainValidator
from torch import Tensor

TENSOR = "$tensor"


def _array(dimensions: int, dtype: torch.dtype | None = None, most: int = 2**31) -> PlainValidator:
    def held(value: Any, info: Any) -> Tensor:
        tensor = _loaded(value, info.context)
        if tensor.ndim != dimensions:
            raise ValueError(f"must have {dimensions} dimensions, not the shape {tuple(tensor.shape)}")
        if dtype not in (None, tensor.dtype):
            raise ValueError(f"must be {dtype}, not {tensor.dtype}")
        if tensor.numel() and not 0 <= tensor.min().item() <= tensor.max().item() <= most:
            raise ValueError(f"must lie between 0 and {most}")
        return tensor

    return PlainValidator(held)


def _loaded(value: Any, tensors: dict[str, Tensor] | None) -> Tensor:
    if isinstance(value, dict) and tensors is not None:
        name = str(value.get(TENSOR))
        if name not in tensors:
            raise ValueError(f"lacks the tensor {name!r}")
        return tensors[name]
    if not isinstance(value, Tensor):
        raise ValueError("must be a tensor")
    return value


Numbers: TypeAlias = Annotated[Tensor, _array(1)]
"""One number per image (n,), not negative."""

Tables: TypeAlias = Annotated[Tensor, _array(2)]
"""Several of them."""

Pictures: TypeAlias = Annotated[Tensor, _array(4, torch.float32, 1)]
"""Images (n, C, H, W) in [0, 1]."""

Bytes: TypeAlias = Annotated[Tensor, _array(4, torch.uint8, 255)]
"""Images (n, C, H, W) of bytes."""

Strips: TypeAlias = Annotated[Tensor, _array(5, torch.uint8, 255)]
"""Several of them per image (n, k, C, H, W)."""


def check_alike(**tensors: Tensor | None) -> None:
    """Raise a ValueError unless all of them that there are have one length."""
    lengths = {name: len(tensor) for name, tensor in tensors.items() if tensor is not None}
    if len({*lengths.values()}) > 1:
        raise ValueError(f"differ in length: {lengths}")
