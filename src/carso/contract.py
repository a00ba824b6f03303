"""The contract: what a classifier and a purifier must be, so that they can make a defence.

    N: images (B, C, H, W) in [0, 1] -> finite logits (B, classes), of two classes at least
    purifier: representations r(x) (B, neurons) -> codes, of layers of N of the shapes that it was made for

What is not so is refused when a defence is made, in a line that says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from carso.correction import CorrectivePurifier
from carso.errors import ModelError
from carso.nn.modes import evaluating
from carso.nn.querying import blamed, query
from carso.progress import note
from carso.purifier import Purifier
from carso.representation import Representation, counted, layers_of
from carso.types import INPUT

SLACK = 0.05
"""Part of the largest logit by which an answer may depend on the size of the batch: products of few bits do."""


def check_kinds(classifier: Any, purifier: Any) -> None:
    """Hold the parts of a defence to be a module and a purifier, or raise a ModelError."""
    if not isinstance(classifier, nn.Module):
        raise ModelError(
            f"the classifier must be an nn.Module, whose layers are read, not a {type(classifier).__name__}"
        )
    if not (isinstance(purifier, nn.Module) and hasattr(purifier, "neurons")):
        raise ModelError(f"the purifier must be a carso.purifier.Purifier, not a {type(purifier).__name__}")


def check_classifier(classifier: nn.Module, shape: Sequence[int], classes: int | None = None) -> int:
    """Hold a classifier to the contract on random images and return its number of classes.

    Args:
        classifier: the module to try.
        shape: (C, H, W) of its images.
        classes: the number of classes expected, if known.

    Raises:
        ModelError: if it cannot run, returns anything but (B, classes) finite logits, or returns probabilities.

    If what it answers to an image depends on the rest of the batch, that is noted.
    """
    device = next((p.device for p in classifier.parameters()), torch.device("cpu"))
    generator = torch.Generator("cpu").manual_seed(0)
    images = torch.rand(3, *shape, generator=generator, device="cpu", dtype=torch.float32).to(device)
    mend = "if it was made for others, pictures of a folder are made so by --size HxW and --channels, or in a recipe"
    with (
        torch.no_grad(),
        evaluating(classifier),
        blamed(f"the classifier cannot run on images of shape {tuple(shape)}", mend),
    ):
        logits, alone = query(classifier, images), query(classifier, images[:1])
    if logits.ndim != 2 or len(logits) != 3 or alone.shape != (1, *logits.shape[1:]):
        raise ModelError(
            "the classifier must return (batch, classes); "
            f"3 images gave {tuple(logits.shape)}, 1 gave {tuple(alone.shape)}"
        )
    if logits.shape[1] < 2:
        raise ModelError("the classifier has a single class; a vote needs two or more")
    if not logits.isfinite().all():
        raise ModelError("the classifier returns NaN or infinity on random images")
    if ((logits >= 0) & (logits <= 1)).all() and torch.allclose(logits.sum(1), logits.new_ones(3), atol=1e-2):
        raise ModelError("the classifier returns probabilities; take off its final softmax, so that it returns logits")
    if classes is not None and logits.shape[1] != classes:
        raise ModelError(f"the classifier has {logits.shape[1]} classes, {classes} were expected")
    if (logits[:1] - alone).abs().max() > SLACK * logits.abs().max() and not _is_random(classifier, images, logits):
        note(
            "warning: the classifier's answer to an image depends on the images beside it, as with batch norm that "
            "keeps no statistics; figures hold for the batches that were asked of it"
        )
    return logits.shape[1]


def _is_random(classifier: nn.Module, images: Tensor, logits: Tensor) -> bool:
    with torch.no_grad(), evaluating(classifier):
        return not torch.equal(query(classifier, images), logits)


def check_purifier(purifier: Purifier, representation: Representation) -> None:
    """Hold a purifier to the representation that it is to read.

    Raises:
        ModelError: if it was made for other layers, or holds weights that are not finite.
    """
    _check_neurons(representation, purifier)
    for name, value in purifier.state_dict().items():
        if not value.isfinite().all():
            raise ModelError(f"the purifier's {name} holds NaN or infinity, with which nothing can be computed")


def _check_neurons(representation: Representation, purifier: Purifier) -> None:
    device = next(purifier.parameters()).device
    shapes = representation.shapes(torch.zeros(1, *purifier.shape, device=device, dtype=torch.float32))
    sizes = counted(shapes)
    if sum(sizes.values()) != purifier.neurons:
        listed = ", ".join(f"{layer} {size}" for layer, size in sizes.items())
        raise ModelError(
            f"the purifier was made for {purifier.neurons} neurons, these layers have {sum(sizes.values())} "
            f"({listed}); pass the `layers` it was trained with"
        )
    made_for = getattr(purifier.maps, "shapes", None)
    given = [(layer, tuple(shape)) for layer, found in shapes.items() for shape in found]
    if made_for is not None and [tuple(shape) for shape in made_for] != [shape for _, shape in given]:
        listed = ", ".join(f"{layer} {shape}" for layer, shape in given)
        raise ModelError(
            f"the purifier was made for layers of the shapes {', '.join(map(str, map(tuple, made_for)))}, these have "
            f"others ({listed}); pass the `layers` it was trained with, in their order"
        )
    if isinstance(purifier, CorrectivePurifier):
        _check_begins_with_the_image(representation, [layer for layer, shape in given if shape == purifier.shape])


def _check_begins_with_the_image(representation: Representation, image_like: Sequence[str]) -> None:
    """What a corrective purifier takes for the image must be it."""
    if INPUT in layers_of(representation.classifier):
        raise ModelError(
            f"the classifier has a layer {INPUT!r} of its own, so that the image cannot be named; rename it"
        )
    if image_like[0] != INPUT:
        raise ModelError(
            f"layer {image_like[0]!r} has the shape of the image and comes first; name {INPUT!r} before it"
        )
