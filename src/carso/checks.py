"""Checks of what users pass in, with messages that name the value."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from carso.data.dataset import Dataset
from carso.errors import DataError


def check_images(images: Tensor, shape: Sequence[int] | None = None) -> None:
    """Hold images to the contract.

    Raises:
        DataError: unless they are floats (B, C, H, W) in [0, 1], of the given (C, H, W) if any, without NaN.
    """
    if not isinstance(images, Tensor) or not images.is_floating_point():
        kind = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise DataError(f"images must be a float tensor in [0, 1], not {kind}; divide bytes by 255")
    if images.ndim != 4 or (shape is not None and tuple(images.shape[1:]) != tuple(shape)):
        wanted = "(batch, channels, height, width)" if shape is None else f"(batch, {', '.join(map(str, shape))})"
        raise DataError(f"images must have shape {wanted}, not {tuple(images.shape)}")
    if images.numel() == 0:
        return
    low, high = torch.aminmax(images.detach())
    if not (low >= 0 and high <= 1):
        raise DataError(f"images must lie in [0, 1] without NaN; these span {low.item():g} to {high.item():g}")


def check_suits(dataset: Dataset, shape: Sequence[int], classes: int) -> None:
    """Hold a data set to what a defence was made for.

    Raises:
        DataError: if its images have another shape than (C, H, W), or a label is not one of the classes.
    """
    if dataset.shape != tuple(shape):
        raise DataError(f"{dataset.name}: its images are {dataset.shape}, the defence takes {tuple(shape)}")
    if dataset.labels is not None and int(dataset.labels.max()) >= classes:
        highest = int(dataset.labels.max())
        raise DataError(f"{dataset.name}: has the label {highest}, the defence knows the classes 0 to {classes - 1}")
