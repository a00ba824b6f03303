"""Calling a function of the user's by name: `package.module:function`."""

from __future__ import annotations

import copy
import importlib
import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from carso.errors import ModelError


def call(source: str) -> Any:
    """What the function `package.module:function`, without arguments, returns; the working folder is searched too.

    Raises:
        ModelError: if it cannot be imported, or fails.
    """
    place, _, function = source.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        make = getattr(importlib.import_module(place), function)
    except (Exception, SystemExit) as error:  # a module of the user's may fail in any way
        raise ModelError(f"{source!r} cannot be imported: {error}; write package.module:factory") from error
    try:
        return make()
    except (Exception, SystemExit) as error:
        raise ModelError(f"{source!r} failed: {type(error).__name__}: {error}") from error


def module(source: str) -> nn.Module:
    """A copy of the module that a function returns, in eval mode: it may return the same one again.

    Raises:
        ModelError: as for `call`, or if it returns something else.
    """
    made = call(source)
    if not isinstance(made, nn.Module):
        raise ModelError(f"{source!r} returned {type(made).__name__}, not an nn.Module")
    return copied(made).eval()


def copied(network: nn.Module) -> nn.Module:
    """A copy of a module that the user may go on with; itself, if it cannot be copied."""
    try:
        with torch.no_grad():  # or the copied parameters of a scripted module would be results, not leaves
            twin = copy.deepcopy(network)
    except Exception:  # what a module of the user's holds may refuse in any way
        return network
    for parameter, theirs in zip(twin.parameters(), network.parameters(), strict=True):
        parameter.requires_grad_(theirs.requires_grad)
    return twin
