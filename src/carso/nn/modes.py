"""Running someone else's module in eval mode and leaving it as it was.

Of a plain callable only what it holds can be seen: modules in its closure, among its globals, its attributes or what
is bound to it. Such a module keeps the mode it is in, which is part of what the callable computes; if it is in train
mode, its buffers (batch statistics) are put back afterwards. A module that is reached in another way, such as through
a list or a second function's globals, is not found: its statistics move.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_holders: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
"""How many contexts hold a module in eval mode that goes back to train mode; of a whole and of its part alike."""
_registry = threading.Lock()


def uncompiled(module: nn.Module) -> nn.Module:
    """What torch.compile was given; any other module as it is."""
    inner = getattr(module, "_orig_mod", module)
    return inner if isinstance(inner, nn.Module) else module


def uncompiled_name(name: str) -> str:
    """The name that a module or a tensor had before torch.compile."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def lock_of(module: nn.Module) -> threading.RLock:
    """The one re-entrant lock that guards temporary changes to `module`."""
    with _registry:
        return _locks.setdefault(uncompiled(module), threading.RLock())


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Hold `model` in eval mode, then give every submodule its own mode back; of a plain callable keep the buffers."""
    if not isinstance(model, nn.Module):
        with _keeping_buffers(modules_behind(model)):
            yield
        return
    with lock_of(model), _held_in_eval_mode(model):
        yield


@contextmanager
def _held_in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Whoever leaves last, of all threads that hold a module, gives it its mode back.

    A module that was put into train mode while it was held goes back to it when who found it so leaves.
    """
    with _registry:
        training = _training(model)
        retrained = [module for module in training if module in _holders]
        held = [*training, *(module for module in model.modules() if module in _holders and not module.training)]
        for module in held:
            _holders[module] = _holders.get(module, 0) + 1
            module.training = False
    try:
        yield
    finally:
        with _registry:
            for module in held:
                _holders[module] -= 1
                if not _holders[module]:
                    del _holders[module]
                    module.training = True
            for module in retrained:
                module.training = True


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Have what is computed within need no gradient of the module's parameters; then let them want it as before."""
    with lock_of(module):
        wanting = [p for p in module.parameters() if p.requires_grad]
        for parameter in wanting:
            parameter.requires_grad = False
        try:
            yield
        finally:
            for parameter in wanting:
                parameter.requires_grad = True


def _training(model: nn.Module) -> list[nn.Module]:
    """The modules in train mode; a scripted one that was frozen knows no mode."""
    return [module for module in model.modules() if getattr(module, "training", False)]


@contextmanager
def _keeping_buffers(modules: Iterable[nn.Module]) -> Iterator[None]:
    moving = [each for module in modules for each in _training(module)]
    kept = [(buffer, buffer.clone()) for module in moving for buffer in module.buffers(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, before in kept:
                buffer.copy_(before)


def modules_behind(model: object) -> list[nn.Module]:
    """The modules that a plain callable holds, and those held by callables that it holds."""
    found: list[nn.Module] = []
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        each = waiting.pop()
        if isinstance(each, nn.Module):
            found.append(each)
        elif callable(each) and id(each) not in seen:
            seen.add(id(each))
            waiting += _held(each)
    return found


def _held(function: Any) -> list[Any]:
    """What a callable that is no module holds, of a function's globals the modules alone."""
    if isinstance(function, partial):
        return [function.func, *function.args, *function.keywords.values()]
    if inspect.ismethod(function):
        return [function.__self__, function.__func__]
    if inspect.isfunction(function):
        named = [function.__globals__.get(name) for name in function.__code__.co_names]
        return [*_enclosed(function), *(each for each in named if isinstance(each, nn.Module))]
    return [] if inspect.isclass(function) else list(getattr(function, "__dict__", {}).values())


def _enclosed(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # of a cell that is still empty
            yield cell.cell_contents
