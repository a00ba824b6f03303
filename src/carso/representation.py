"""The representation r(x): what a classifier's neurons say of an image.

    r(x) = [a_1(x), ..., a_M(x)]     the outputs of M named layers, flattened and concatenated in a fixed order

The layers are found by hooks on `nn.Module.named_modules()`, so any classifier will do, convolutional ones included.
The extra name "output" stands for what the classifier returns, "input" for the image itself. By default the layers
are all non-linearities, then the output.

Source: thesis, section 3.2.3 ("ordered representation").
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from carso.errors import ModelError
from carso.nn.modes import evaluating
from carso.types import INPUT, OUTPUT, Images, Logits, Representations

_NOT_NEURONS = (
    activation.MultiheadAttention,
    activation.Softmax,
    activation.Softmax2d,
    activation.Softmin,
    activation.LogSoftmax,
)


def nonlinearities(classifier: nn.Module) -> tuple[str, ...]:
    """The names of the classifier's activation modules, in the order in which they are defined."""
    return tuple(
        name
        for name, module in classifier.named_modules()
        if type(module).__module__ == activation.__name__ and not isinstance(module, _NOT_NEURONS)
    )


def _affine(classifier: nn.Module) -> tuple[str, ...]:
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return tuple(name for name, module in classifier.named_modules() if isinstance(module, kinds))


def default_layers(classifier: nn.Module) -> tuple[str, ...]:
    """All non-linearities and the output; a classifier without activation modules gives its linear layers instead."""
    return (*(nonlinearities(classifier) or _affine(classifier)), OUTPUT)


class Representation:
    """Reads r(x) off a classifier, which stays as it was: same mode, same flags, same hooks.

    Threads may share a representation: they take turns at the classifier's forward pass.

    Args:
        classifier: any module from images (B, C, H, W) to logits (B, classes).
        layers: names as in `classifier.named_modules()`, "input" or "output"; `None` for `default_layers`.
            A layer that runs several times in one pass contributes all its outputs, in the order of the calls.

    Raises:
        ModelError: if a name is unknown (near ones are suggested), repeated, or the list is empty.
    """

    def __init__(self, classifier: nn.Module, layers: Sequence[str] | None = None) -> None:
        self.classifier = classifier
        self.layers = default_layers(classifier) if layers is None else tuple(layers)
        self._check_names()

    def __call__(self, images: Images) -> tuple[Logits, Representations]:
        """Logits (B, classes) and r(x) (B, neurons) of images (B, C, H, W); differentiable in the images."""
        logits, activations = self._run(images)
        return logits, torch.cat([a.flatten(1) for outputs in activations.values() for a in outputs], dim=1)

    def sizes(self, images: Images) -> dict[str, int]:
        """How many neurons each layer contributes, found by a dry run on `images`."""
        return {layer: sum(map(math.prod, shapes)) for layer, shapes in self.shapes(images).items()}

    def shapes(self, images: Images) -> dict[str, list[tuple[int, ...]]]:
        """The shape, without the batch, of every output that each layer contributes, found by a dry run on `images`."""
        with torch.no_grad():
            _, activations = self._run(images)
        return {layer: [tuple(a.shape[1:]) for a in outputs] for layer, outputs in activations.items()}

    def _run(self, images: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
        activations: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}
        ends = {INPUT, OUTPUT} & activations.keys() - self._modules.keys()
        if INPUT in ends:
            activations[INPUT].append(images.clone())
        with evaluating(self.classifier), self._listening(activations):
            logits = self.classifier(images)
        if OUTPUT in ends:
            activations[OUTPUT].append(logits)
        for layer, outputs in activations.items():
            if not outputs:
                raise ModelError(
                    f"layer {layer!r} did not run in the classifier's forward pass; leave it out of `layers`"
                )
        return logits, activations

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {name: module for name, module in self.classifier.named_modules() if name}

    @contextmanager
    def _listening(self, activations: dict[str, list[Tensor]]) -> Iterator[None]:
        modules = self._modules
        handles = [
            modules[layer].register_forward_hook(partial(_collect, layer, activations[layer]))
            for layer in self.layers
            if layer in modules
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _check_names(self) -> None:
        known = [*self._modules, INPUT, OUTPUT]
        if not self.layers:
            raise ModelError("the representation needs at least one layer")
        for layer in self.layers:
            if layer not in known:
                near = difflib.get_close_matches(layer, known, n=3, cutoff=0.4) or known[:8]
                raise ModelError(f"the classifier has no layer {layer!r}; near: {', '.join(near)}")
            if self.layers.count(layer) > 1:
                raise ModelError(f"layer {layer!r} is named twice")


def _collect(layer: str, outputs: list[Tensor], module: nn.Module, inputs: object, output: object) -> None:
    if not isinstance(output, Tensor):
        raise ModelError(
            f"layer {layer!r} returns {type(output).__name__}, not a tensor; name a layer inside it instead"
        )
    # An in-place operation right after the layer (ReLU(inplace=True)) would overwrite what was heard.
    outputs.append(output.clone())


def check_classifier(classifier: nn.Module, shape: Sequence[int], classes: int | None = None) -> int:
    """Hold a classifier to the contract on random images and return its number of classes.

    Args:
        classifier: the module to try.
        shape: (C, H, W) of its images.
        classes: the number of classes expected, if known.

    Raises:
        ModelError: if it cannot run, returns anything but (B, classes) finite logits, or returns probabilities.
    """
    parameter = next(classifier.parameters(), torch.empty(0))
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, *shape, generator=generator).to(parameter.device)
    with torch.no_grad(), evaluating(classifier):
        try:
            logits, alone = classifier(images), classifier(images[:1])
        except (RuntimeError, ValueError, TypeError) as error:
            raise ModelError(f"the classifier cannot run on images of shape {tuple(shape)}: {error}") from error
    if not isinstance(logits, Tensor):
        raise ModelError(f"the classifier returns {type(logits).__name__}, not a tensor of logits")
    if logits.ndim != 2 or len(logits) != 3 or alone.shape != (1, *logits.shape[1:]):
        raise ModelError(
            "the classifier must return (batch, classes); "
            f"3 images gave {tuple(logits.shape)}, 1 gave {tuple(alone.shape)}"
        )
    if logits.shape[1] < 2:
        raise ModelError("the classifier has a single class; a vote needs two or more")
    if not logits.isfinite().all():
        raise ModelError("the classifier returns NaN or infinity on random images")
    if (logits >= 0).all() and torch.allclose(logits.sum(1), logits.new_ones(3), atol=1e-4):
        raise ModelError("the classifier returns probabilities; take off its final softmax, so that it returns logits")
    if classes is not None and logits.shape[1] != classes:
        raise ModelError(f"the classifier has {logits.shape[1]} classes, {classes} were expected")
    return logits.shape[1]
