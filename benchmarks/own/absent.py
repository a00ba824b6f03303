"""torchvision where there is none: timm imports names of it that its networks never call."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from types import ModuleType

from torch import nn

NAME = "torchvision"


class Kind(type):
    """A class with whatever is asked of it."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class Anything(ModuleType):
    """A module of classes, each made when it is asked for."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        made = Kind(name, (nn.Module,), {})
        setattr(self, name, made)
        return made


class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the package and everything in it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name.split(".")[0] == NAME:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return Anything(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__path__ = []


def needed(arguments: Sequence[str]) -> bool:
    """Whether a command line is about a model of timm's; transformers asks torchvision for its version."""
    return any("timm" in argument for argument in arguments)


def stand_in() -> None:
    """Let the package be imported, if it is not installed."""
    if importlib.util.find_spec(NAME) is None:
        sys.meta_path.append(Absent())
