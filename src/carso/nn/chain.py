"""A chain of named layers, of which a part is a plain chain."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn


class Chain(nn.Sequential):
    """Layers one after the other; subclasses may be made of sizes."""

    def __getitem__(self, index: slice | int) -> nn.Module:
        """The layer at a place; or of a slice the layers, by their names, as an `nn.Sequential`."""
        if isinstance(index, slice):
            return nn.Sequential(OrderedDict([*self._modules.items()][index]))
        return super().__getitem__(index)
