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
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_registry = threading.Lock()


@dataclass
class _Holding:
    """Who holds a module in eval mode that goes back to train mode, as a whole or as a part.

    Attributes:
        holders: the contexts that do.
        before: those that did whenever it was found in train mode.
    """

    holders: set[object] = field(default_factory=set)
    before: list[set[object]] = field(default_factory=list)


_holdings: WeakKeyDictionary[nn.Module, _Holding] = WeakKeyDictionary()


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

    A module that was put into train mode while it was held goes back to it when who found it so has left, and whoever
    came after.
    """
    me = object()
    with _registry:
        modules = [module for module in model.modules() if module in _holdings or getattr(module, "training", False)]
        for module in modules:
            holding = _holdings.setdefault(module, _Holding())
            if module.training:
                holding.before.append(set(holding.holders))
            holding.holders.add(me)
            module.training = False
    try:
        yield
    finally:
        with _registry:
            for module in modules:
                _leave(module, me)


def _leave(module: nn.Module, holder: object) -> None:
    """Let go of a module; it goes back to train mode where nobody holds it but who did before it was found so."""
    holding = _holdings[module]
    holding.holders.remove(holder)
    while holding.before and holding.holders <= holding.before[-1]:
        holding.before.pop()
        module.training = True
    if not holding.holders:
        del _holdings[module]


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
    kept = [
        (module, name, buffer, None if buffer is None else buffer.clone())
        for module in moving
        for name, buffer in module._buffers.items()
    ]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, buffer, before in kept:
                if buffer is not None and before is not None:
                    buffer.copy_(before)
                module._buffers[name] = buffer


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
