"""`save_pretrained`, `push_to_hub` and `from_pretrained`, as people know them from the hub, on a module of ours.

The module knows the names alone: `carso.hub`, which reads results and stands far above it, is looked up when one of
them is called.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn


class Pretrained:
    """What a defence is shared by."""

    def save_pretrained(self, folder: str | Path, run: str | Path | None = None) -> Path:
        """Write weights, model card and checksums into a folder; see `carso.hub.store`."""
        written: Path = import_module("carso.hub").store(self, folder, run)
        return written

    def push_to_hub(self, repository: str, run: str | Path | None = None, **options: Any) -> str:
        """Share it on the hub (extra `hub`) and return the commit's address; see `carso.hub.push`."""
        address: str = import_module("carso.hub").push(self, repository, run, **options)
        return address

    @classmethod
    def from_pretrained(cls, source: str | Path, classifier: nn.Module | None = None, **options: Any) -> Any:
        """One that `save_pretrained` wrote, from a folder or a repository of the hub; see `carso.hub.restore`."""
        return import_module("carso.hub").restore(source, classifier, **options)
