"""The design of both networks: what a recipe and the data make of them, before anything is trained.

kind, layers of r(x), K    as the recipe says, or else: convolutional for colour and large images; the layers that
                           `carso.layers` proposes within the kind's bound; 1500 candidates if dense, 8 if not
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import nn

from carso.contract import check_classifier
from carso.correction import CorrectivePurifier
from carso.data import Dataset
from carso.data.labelled import matched, names_of
from carso.defence import CARSO
from carso.errors import DataError, ModelError, RecipeError
from carso.layers import propose
from carso.nn import ARCHITECTURES
from carso.nn.adapted import doubt_of_input
from carso.nn.maps import Maps
from carso.nn.querying import answers
from carso.nn.standardise import MNIST_MEAN, MNIST_STD
from carso.progress import note
from carso.purifier import ConvolutionalPurifier, Purifier, Widths
from carso.representation import Representation
from carso.training.recipe import KINDS, ClassifierSpec, PurifierSpec, Recipe, check_only
from carso.types import INPUT

GREY_SIDE = 32
"""Pixels a side up to which grey images get a dense purifier."""

DENSE_SAMPLES, CONVOLUTIONAL_SAMPLES = 1500, 8
"""Candidates per image: of the thesis, and of the published convolutional design."""

LOOKED_AT = 500
"""Held-out images on which a classifier is tried before its purifier is trained."""


def is_convolutional(spec: PurifierSpec, shape: Sequence[int]) -> bool:
    """Whether a purifier of images (C, H, W) is the convolutional one: by its recipe, or by their colours and size."""
    channels, *sides = shape
    return spec.kind != "dense" if spec.kind else channels > 1 or max(sides) > GREY_SIDE


def samples_of(spec: PurifierSpec, shape: Sequence[int], samples: int | None) -> int:
    """K: as many candidates as the recipe says, or as are usual for the kind of purifier."""
    return samples or (CONVOLUTIONAL_SAMPLES if is_convolutional(spec, shape) else DENSE_SAMPLES)


def check_classes(classifier: nn.Module, train: Dataset) -> int:
    """Hold a classifier to the contract on images such as these, and return how many classes it knows.

    Raises:
        ModelError: if it breaks the contract, or knows fewer classes than the images have.
        DataError: if it knows more, and which of them the images have cannot be known.
    """
    if (known := check_classifier(classifier, train.shape)) < len(train.classes):
        raise ModelError(f"the classifier knows {known} classes, {train.name} has {len(train.classes)}")
    matched(train, known, names_of(classifier))
    return known


def as_known(images: Dataset, classifier: nn.Module) -> Dataset:
    """The images, their labels as the classifier numbers its classes.

    Raises:
        ModelError, DataError: as for `check_classes`.
    """
    return matched(images, check_classes(classifier, images), names_of(classifier))


def look_at(classifier: nn.Module, classes: int, held_out: Dataset) -> None:
    """Say so if a classifier is hardly better than chance on held-out images, where these have labels."""
    some = matched(held_out[:LOOKED_AT], classes, names_of(classifier))
    if some.labels is None:
        return
    right = int((answers(classifier, (images for _, images in some.chunks())) == some.labels).sum())
    if doubt := doubt_of_input(right, len(some), classes):
        note(doubt)


def representation_of(spec: PurifierSpec, classifier: nn.Module, train: Dataset) -> Representation:
    """Of the layers that the recipe names, or of those that are proposed, which is said."""
    layers = spec.layers
    if layers is None:
        kind = ConvolutionalPurifier if is_convolutional(spec, train.shape) else Purifier
        proposal = propose(classifier, train[:1].images, kind.bound(train.shape))
        note(str(proposal))
        layers = (INPUT, *proposal.layers) if spec.kind == "corrective" else proposal.layers
    return Representation(classifier, layers)


def purifier_of(spec: PurifierSpec, representation: Representation, train: Dataset) -> Purifier:
    """An untrained purifier of the training images and their representation.

    Raises:
        RecipeError: if convolutions are to begin R and no layer has maps for them, or a field is of another kind than
            the one that the images have by default.
    """
    _check_kind(spec, train)
    shapes = [shape for layer in representation.shapes(train[:1].images).values() for shape in layer]
    if spec.kind == "corrective":
        return _corrective(spec, shapes, train)
    if is_convolutional(spec, train.shape):
        if spec.maps and train.shape not in shapes:
            raise RecipeError("purifier.maps reads the image, which purifier.layers leaves out: name input among them")
        latent = spec.latent or ConvolutionalPurifier.LATENT
        return ConvolutionalPurifier(train.shape, shapes, latent, spec.code, spec.compression, spec.maps)
    neurons, maps = sum(map(math.prod, shapes)), Maps(shapes, spec.maps) if spec.maps else None
    if maps is not None and not list(maps.parameters()):
        raise RecipeError(
            "purifier.maps needs a layer of 2 x 2 pixels or more, such as input; purifier.layers gives none: "
            + ", ".join(representation.layers)
        )
    latent, features = spec.latent or Purifier.LATENT, neurons if maps is None else maps.features
    if spec.widths != "interpolated":
        return Purifier(train.shape, neurons, latent, spec.widths, spec.representation, maps)
    sizes = Widths.interpolated(math.prod(train.shape), features, latent, spec.representation, spec.hidden)
    return Purifier(train.shape, neurons, latent, sizes, maps=maps)


def _check_kind(spec: PurifierSpec, train: Dataset) -> None:
    if spec.kind is None:
        kind = "convolutional" if is_convolutional(spec, train.shape) else "dense"
        try:
            check_only(spec, "kind", KINDS, [kind])
        except ValueError as error:
            raise RecipeError(f"purifier: {error}, by default for {train.name}") from error


def _corrective(spec: PurifierSpec, shapes: Sequence[Sequence[int]], train: Dataset) -> CorrectivePurifier:
    if train.shape not in map(tuple, shapes):
        raise RecipeError("kind: corrective keeps the image, which purifier.layers leaves out: name input among them")
    sizes = {name: getattr(spec, name) for name in ("width", "channels", "blocks", "shift", "flip", "contrast")}
    return CorrectivePurifier(train.shape, shapes, spec.latent or CorrectivePurifier.LATENT, **sizes)


def assembled(recipe: Recipe, representation: Representation, purifier: Purifier) -> CARSO:
    """A defence of its parts, with the candidates and the aggregation that the recipe says."""
    samples = samples_of(recipe.purifier, purifier.shape, recipe.samples)
    layers, aggregation = representation.layers, recipe.aggregation
    return CARSO(representation.classifier, purifier, layers, samples, aggregation=aggregation)


def classifier_of(spec: ClassifierSpec, train: Dataset) -> nn.Module:
    """An untrained classifier of the library's own for the training images.

    Raises:
        DataError: if they have no labels.
        RecipeError: if they are too small for its layers.
    """
    classes = len(train.classes)
    if not classes:
        raise DataError(f"{train.name} has no labels, which stage 1 needs; give a trained classifier instead")
    mean, std = train.moments if train.name != "mnist" else (MNIST_MEAN, MNIST_STD)
    build: Callable[..., nn.Module] = ARCHITECTURES[spec.architecture]
    try:
        return build(shape=train.shape, classes=classes, mean=mean, std=std, **spec.options)
    except ValueError as error:
        raise RecipeError(f"classifier: {error}") from error
