"""Filling modules with the tensors of a file, after finding that they fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from carso.errors import WeightsError, shown
from carso.nn.modes import uncompiled_name

M = TypeVar("M", bound=nn.Module)


def filled(make: Callable[[], M], tensors: Mapping[str, Tensor], path: Path) -> M:
    """A float32 module with these weights; it takes no memory before it is known to be as large as they are.

    Raises:
        WeightsError: if it cannot be made, or the tensors do not fit it.
    """
    try:
        with torch.device("meta"):
            module = make().float()
    except (RuntimeError, ValueError, TypeError) as error:
        raise WeightsError(f"{path}: what it describes cannot be built: {error}") from error
    return fill(module, tensors, path)


def fill(module: M, tensors: Mapping[str, Tensor], path: Path) -> M:
    """Put the tensors of a file into a module that has their names, shapes and kinds of numbers.

    Raises:
        WeightsError: naming the tensors that do not fit.
    """
    expected = module.state_dict()
    check_fit({uncompiled_name(name): value for name, value in expected.items()}, tensors, path)
    own = {name: tensors[uncompiled_name(name)].to(value.dtype, copy=True) for name, value in expected.items()}
    module.load_state_dict(own, assign=any(value.is_meta for value in expected.values()))
    return module


def check_fit(expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor], path: Path) -> None:
    """Hold the tensors of a file to the names, shapes and kinds of numbers that are expected.

    Raises:
        WeightsError: naming the file and the tensors that are missing, left over or different.
    """
    wrong = sorted({*expected} ^ {*tensors}) or [
        name for name, value in expected.items() if _differ(value, tensors[name])
    ]
    if wrong:
        raise WeightsError(f"{path} does not fit its own description: {', '.join(map(shown, wrong[:3]))}")


def _differ(expected: Tensor, given: Tensor) -> bool:
    return expected.shape != given.shape or _kind(expected) != _kind(given)


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()
