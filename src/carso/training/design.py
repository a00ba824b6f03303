"""A purifier's design: what a recipe and a classifier make of it, before anything of it is trained.

kind, layers of r(x), K    as the recipe says, or else: convolutional for colour and large images; the layers that
                           `carso.layers` proposes within the kind's bound; 1500 candidates if dense, 8 if not
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from carso.data import Dataset
from carso.errors import RecipeError
from carso.layers import propose
from carso.nn import evaluating, query
from carso.nn.adapted import doubt_of_input
from carso.nn.maps import Maps
from carso.progress import note
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.representation import Representation
from carso.training.recipe import PurifierSpec

GREY_SIDE = 32
"""Pixels a side up to which grey images get a dense purifier."""

DENSE_SAMPLES, CONVOLUTIONAL_SAMPLES = 1500, 8
"""Candidates per image: of the thesis, and of the published convolutional design."""

LOOKED_AT = 500
"""Held-out images on which a classifier is tried before its purifier is trained."""


def say_doubt(classifier: nn.Module, images: Dataset, classes: int) -> None:
    """Say so if a classifier of so many classes is hardly better than chance on clean images that have labels."""
    if images.labels is None:
        return
    with torch.no_grad(), evaluating(classifier):
        answers = torch.cat([query(classifier, some).argmax(1) for _, some in images.chunks()])
    right = int((answers == images.labels).sum())
    if doubt := doubt_of_input(right, len(images), classes):
        note(doubt)


def is_convolutional(spec: PurifierSpec, shape: Sequence[int]) -> bool:
    """Whether a purifier of images (C, H, W) is the convolutional one: by its recipe, or by their colours and size."""
    channels, *sides = shape
    return spec.kind == "convolutional" if spec.kind else channels > 1 or max(sides) > GREY_SIDE


def samples_of(spec: PurifierSpec, shape: Sequence[int], samples: int | None) -> int:
    """K: as many candidates as the recipe says, or as are usual for the kind of purifier."""
    return samples or (CONVOLUTIONAL_SAMPLES if is_convolutional(spec, shape) else DENSE_SAMPLES)


def representation_of(spec: PurifierSpec, classifier: nn.Module, train: Dataset) -> Representation:
    """Of the layers that the recipe names, or of those that are proposed, which is said."""
    layers = spec.layers
    if layers is None:
        kind = ConvolutionalPurifier if is_convolutional(spec, train.shape) else Purifier
        proposal = propose(classifier, train[:1].images, kind.bound(train.shape))
        note(str(proposal))
        layers = proposal.layers
    return Representation(classifier, layers)


def purifier_of(spec: PurifierSpec, representation: Representation, train: Dataset) -> Purifier:
    """An untrained purifier of the training images and their representation.

    Raises:
        RecipeError: if convolutions are to begin R and no layer has maps for them.
    """
    shapes = [shape for layer in representation.shapes(train[:1].images).values() for shape in layer]
    if is_convolutional(spec, train.shape):
        if spec.maps and train.shape not in shapes:
            raise RecipeError("purifier.maps reads the image, which purifier.layers leaves out: name input among them")
        return ConvolutionalPurifier(train.shape, shapes, spec.latent or 128, spec.code, spec.compression, spec.maps)
    neurons, maps = sum(map(math.prod, shapes)), Maps(shapes, spec.maps) if spec.maps else None
    if maps is not None and not list(maps.parameters()):
        raise RecipeError(
            "purifier.maps needs a layer of 2 x 2 pixels or more, such as input; purifier.layers gives none: "
            + ", ".join(representation.layers)
        )
    return Purifier(train.shape, neurons, spec.latent or 36, spec.widths, spec.representation, maps)
