"""The layers proposed for a representation r(x): which of a network's outputs make it, how many, and why.

    a_1, ..., a_M     outputs of one kind, in the order in which they are first computed; s_i numbers per image each
    chosen            a_i for i = floor(M j / m), j = 1..m, and the logits: evenly over the depth, the last included
    m                 the largest for which all chosen have at most `most` numbers; no layer larger than that counts

The kind is the outputs of the blocks that a network repeats (residual ones, or a transformer's); where it repeats none,
of its non-linearities; where these are no modules, of its convolutions and linear maps. The choice depends on
architecture and image size alone.

Source: thesis, section 3.2.3, has all non-linearities; the published CARSO of 2023, 26 convolutions of a WRN-28-10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from carso.errors import ModelError
from carso.purifier import MAPPED
from carso.representation import affine, hidden, layers_of, nonlinearities, sizes_of_layers
from carso.types import OUTPUT, Images

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
"""Kinds of modules that only hold others."""

BLOCKS, NONLINEARITIES, AFFINE = "blocks", "non-linearities", "convolutions and linear maps"

TOLD = 6
"""Names of layers that are said, at most."""


@dataclass(frozen=True)
class Proposal:
    """Layers, and why these.

    Attributes:
        layers: their names, in order, the output last.
        kind: what they are, but for the output.
        found: how many of this kind the network has.
        neurons: how many numbers per image they are together.
        whole: how many all of this kind would be.
        most: how many they may be.
    """

    layers: tuple[str, ...]
    kind: str
    found: int
    neurons: int
    whole: int
    most: int

    def __str__(self) -> str:
        """In a sentence."""
        *chosen, _ = self.layers
        size = f"representation of {self.neurons:,} numbers an image"
        if len(chosen) == self.found:
            return f"{size}: the outputs of its {self.found} {self.kind} ({_listed(chosen)}) and the logits"
        few = f"the outputs of {len(chosen)} of {self.found} {self.kind} ({_listed(chosen)}) and " if chosen else ""
        return (
            f"{size}: {few}the logits, evenly over the depth; all {self.found} would be {self.whole:,}, over the bound "
            f"of {self.most:,}; purifier.layers in the recipe names others"
        )


def propose(classifier: nn.Module, images: Images, most: int = MAPPED) -> Proposal:
    """The layers of a classifier for a representation of at most `most` numbers per image, found by a dry run.

    Args:
        classifier: images (B, C, H, W) to logits.
        images: one or two of them.
        most: numbers per image that the layers may have together; the logits are taken even if they have more.

    Raises:
        ModelError: if it shows no layers of any kind.
    """
    run = sizes_of_layers(classifier, images)
    kinds = {kind: {n: size for n, size in run.items() if n in names} for kind, names in _kinds(classifier).items()}
    if len(kinds[AFFINE]) > 1:
        kinds[AFFINE].popitem()  # the map to the logits, which are chosen anyway
    proposals = [_proposal(kind, sizes, run[OUTPUT], most) for kind, sizes in kinds.items() if sizes]
    if not proposals:
        raise ModelError(hidden(classifier))
    return next((found for found in proposals if len(found.layers) > 1), proposals[0])


def _kinds(classifier: nn.Module) -> dict[str, Sequence[str]]:
    """The names of the layers of each kind, the preferred first."""
    shown, maps = (_without_output(names) for names in (nonlinearities(classifier), affine(classifier)))
    few = 2 * len(shown) < len(maps) - 1
    kinds = {BLOCKS: blocks(classifier), NONLINEARITIES: shown, AFFINE: maps}
    order = (BLOCKS, AFFINE, NONLINEARITIES) if few else (BLOCKS, NONLINEARITIES, AFFINE)
    return {kind: kinds[kind] for kind in order}


def _without_output(names: Sequence[str]) -> list[str]:
    return [name for name in names if name != OUTPUT]


def blocks(classifier: nn.Module) -> tuple[str, ...]:
    """The modules of a class that the network repeats, each of two affine layers or more; the outermost."""
    named = {name: module for name, module in layers_of(classifier).items() if type(module) not in CONTAINERS}
    large = {name: type(module) for name, module in named.items() if len(affine(module)) > 1}
    times = Counter(large.values())
    repeated = [name for name, kind in large.items() if times[kind] > 1]
    return tuple(name for name in repeated if not any(name.startswith(f"{other}.") for other in repeated))


def _proposal(kind: str, sizes: Mapping[str, int], classes: int, most: int) -> Proposal:
    chosen = (*evenly({name: size for name, size in sizes.items() if size <= most}, most - classes), OUTPUT)
    neurons = classes + sum(sizes[name] for name in chosen[:-1])
    return Proposal(chosen, kind, len(sizes), neurons, sum(sizes.values()) + classes, most)


def evenly(sizes: Mapping[str, int], most: int) -> tuple[str, ...]:
    """As many names as have at most `most` together, evenly spaced, the last among them; none if that has more."""
    names = list(sizes)
    for m in range(len(names), 0, -1):
        chosen = tuple(names[len(names) * j // m - 1] for j in range(1, m + 1))
        if sum(sizes[name] for name in chosen) <= most:
            return chosen
    return ()


def _listed(names: Sequence[str]) -> str:
    if len(names) <= TOLD:
        return ", ".join(names)
    return f"{', '.join(names[: TOLD - 1])}, ..., {names[-1]}"
