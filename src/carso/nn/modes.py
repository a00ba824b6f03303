"""Running someone else's module in eval mode and leaving it as it was."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from torch import nn

_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()
_registry = threading.Lock()


def lock_of(module: nn.Module) -> threading.RLock:
    """The one re-entrant lock that guards temporary changes to `module`."""
    with _registry:
        return _locks.setdefault(module, threading.RLock())


@contextmanager
def evaluating(model: object) -> Iterator[None]:
    """Hold `model` in eval mode, then give every submodule its own mode back; a plain callable passes untouched."""
    if not isinstance(model, nn.Module):
        yield
        return
    with lock_of(model):
        training = [module for module in model.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True
