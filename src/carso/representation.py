"""The representation r(x): what a classifier's neurons say of an image.

    r(x) = [a_1(x), ..., a_M(x)]     the outputs of M named layers, flattened and concatenated in a fixed order

The layers are found by hooks on `nn.Module.named_modules()`, so any classifier will do, convolutional ones included.
The extra name "output" stands for what the classifier returns, "input" for the image itself. By default the layers
are all non-linearities, then the output.

What `torch.compile` was given is run as it was before. Scripted and exported modules keep their layers to themselves.

Source: thesis, section 3.2.3 ("ordered representation").
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import activation

from carso.errors import ModelError
from carso.nn.modes import evaluating, uncompiled, uncompiled_name
from carso.nn.querying import query, widened
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
        for name, module in layers_of(classifier).items()
        if type(module).__module__ == activation.__name__ and not isinstance(module, _NOT_NEURONS)
    )


def affine(classifier: nn.Module) -> tuple[str, ...]:
    """The names of the classifier's linear layers and convolutions, in the order in which they are defined.

    The last map of torch's attention is none of them: its weights are used, but it is never called.
    """
    kinds, uncalled = (nn.Linear, nn.modules.conv._ConvNd), nn.modules.linear.NonDynamicallyQuantizableLinear
    found = layers_of(classifier).items()
    return tuple(name for name, module in found if isinstance(module, kinds) and not isinstance(module, uncalled))


def default_layers(classifier: nn.Module) -> tuple[str, ...]:
    """All non-linearities and the output; a classifier without activation modules gives its linear layers instead.

    Raises:
        ModelError: if it has neither.
    """
    found = nonlinearities(classifier) or affine(classifier)
    if not found:
        raise ModelError(hidden(classifier))
    return (*(name for name in found if name != OUTPUT), OUTPUT)


def hidden(classifier: nn.Module) -> str:
    """What to do about a classifier that shows no layers."""
    return (
        f"the classifier, a {type(classifier).__name__}, shows no activation, linear or convolution modules; if it "
        "was scripted or exported, give the module that it was made from; else name the layers (`layers`; --layers of "
        "carso harden, purifier.layers of a recipe): 'input' and 'output' always work"
    )


def layers_of(classifier: nn.Module) -> dict[str, nn.Module]:
    """The classifier's modules by their names, which are those that they had before `torch.compile`."""
    named = {uncompiled_name(name): module for name, module in classifier.named_modules()}
    return {name: module for name, module in named.items() if name}


def _as_before_compiling(classifier: nn.Module) -> AbstractContextManager[Any]:
    """A context in which compiled parts run as they are written, so that hooks are called."""
    modules = list(classifier.modules())
    compiled = any(uncompiled(m) is not m or m._compiled_call_impl is not None for m in modules)
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def sizes_of_layers(classifier: nn.Module, images: Images) -> dict[str, int]:
    """How many numbers per image each layer gives in a dry run, in the order in which they first ran, output included.

    Layers whose outputs have no row for each image, or that hooks cannot hear, are left out.
    """
    found: dict[str, int | None] = {}

    def measure(name: str, module: nn.Module, inputs: object, output: object) -> None:
        rows, before = unwrapped(output), found.get(name, 0)
        size = rows[0].numel() if isinstance(rows, Tensor) and rows.ndim > 1 and len(rows) == len(images) else None
        found[name] = None if before is None or size is None else before + size

    with torch.no_grad(), evaluating(classifier), _as_before_compiling(classifier), _hooked(classifier, measure):
        logits = query(classifier, images)
    return {OUTPUT: logits[0].numel()} | {name: size for name, size in found.items() if size is not None}


class Representation:
    """Reads r(x) off a classifier, which stays as it was: same mode, same flags, same hooks.

    Threads may share a representation: they take turns at the classifier's forward pass.

    Args:
        classifier: any module from images (B, C, H, W) to logits (B, classes).
        layers: names as in `classifier.named_modules()`, before any `torch.compile`, or "input" or "output"; `None`
            for `default_layers`. A layer that runs several times in one pass contributes all its outputs, in the order
            of the calls.

    Raises:
        ModelError: if a name is unknown (near ones are suggested), repeated, or the list is empty.
    """

    def __init__(self, classifier: nn.Module, layers: Sequence[str] | None = None) -> None:
        self.classifier = classifier
        self.layers = default_layers(classifier) if layers is None else tuple(layers)
        self._check_names()

    def __call__(self, images: Images) -> tuple[Logits, Representations]:
        """Logits (B, classes) and r(x) (B, neurons) of images (B, C, H, W), in their dtype, differentiable in them.

        Raises:
            ModelError: if a layer was not heard, or its outputs have no row for each image.
        """
        logits, activations = self._run(images)
        with torch.autocast(images.device.type, enabled=False):  # it knows no float16 on a CPU
            r = torch.cat([a.flatten(1) for outputs in activations.values() for a in outputs], dim=1)
        dtype = widened(images.dtype)
        return logits.to(dtype), r.to(dtype)

    def sizes(self, images: Images) -> dict[str, int]:
        """How many neurons each layer contributes, found by a dry run on `images`."""
        return counted(self.shapes(images))

    def shapes(self, images: Images) -> dict[str, list[tuple[int, ...]]]:
        """The shape, without the batch, of every output that each layer contributes, found by a dry run on `images`."""
        with torch.no_grad():
            _, activations = self._run(images)
        return {layer: [tuple(a.shape[1:]) for a in outputs] for layer, outputs in activations.items()}

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _run(self, images: Tensor) -> tuple[Tensor, dict[str, list[Tensor]]]:
        activations: dict[str, list[Tensor]] = {layer: [] for layer in self.layers}
        ends = {INPUT, OUTPUT} & activations.keys() - layers_of(self.classifier).keys()
        if INPUT in ends:
            activations[INPUT].append(images)
        with evaluating(self.classifier), _as_before_compiling(self.classifier), self._hearing(activations):
            logits = query(self.classifier, images)
        if OUTPUT in ends:
            activations[OUTPUT].append(logits)
        for layer, outputs in activations.items():
            if not outputs:
                raise ModelError(
                    f"layer {layer!r} was not heard: it did not run in the classifier's forward pass, or is scripted "
                    "or exported; leave it out of `layers`"
                )
            _check_rows(layer, outputs, images)
        return logits, activations

    def _hearing(self, activations: dict[str, list[Tensor]]) -> AbstractContextManager[None]:
        return _hooked(self.classifier, lambda layer, *call: _collect(layer, activations[layer], *call), self.layers)

    def _check_names(self) -> None:
        known = [*layers_of(self.classifier), INPUT, OUTPUT]
        if not self.layers:
            raise ModelError("the representation needs at least one layer")
        for layer in self.layers:
            if layer not in known:
                near = difflib.get_close_matches(layer, known, n=3, cutoff=0.4) or known[:8]
                raise ModelError(f"the classifier has no layer {layer!r}; near: {', '.join(near)}")
            if self.layers.count(layer) > 1:
                raise ModelError(f"layer {layer!r} is named twice")


def counted(shapes: Mapping[str, Sequence[Sequence[int]]]) -> dict[str, int]:
    """How many neurons each layer contributes, of the shapes of its outputs."""
    return {layer: sum(map(math.prod, found)) for layer, found in shapes.items()}


@contextmanager
def _hooked(
    classifier: nn.Module, hear: Callable[[str, nn.Module, Any, Any], None], layers: Sequence[str] | None = None
) -> Iterator[None]:
    """Have `hear` called with the name, module, inputs and output of these layers, or all, whenever one has run here.

    What another thread has the classifier do meanwhile is not heard.
    """
    here = get_ident()

    def heard(name: str, *call: Any) -> None:
        if get_ident() == here:
            hear(name, *call)

    handles = [
        module.register_forward_hook(partial(heard, name))
        for name, module in layers_of(classifier).items()
        if (layers is None or name in layers) and not isinstance(module, torch.jit.ScriptModule)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def unwrapped(output: object) -> object:
    """A layer's output; the first of a tuple, which is what transformers' blocks hand on."""
    return output[0] if isinstance(output, tuple) and output else output


def _collect(layer: str, outputs: list[Tensor], module: nn.Module, inputs: object, output: object) -> None:
    output = unwrapped(output)
    if not isinstance(output, Tensor):
        raise ModelError(
            f"layer {layer!r} returns {type(output).__name__}, not a tensor; name a layer inside it instead"
        )
    # An in-place operation right after the layer (ReLU(inplace=True)) would overwrite what was heard.
    outputs.append(output.clone())


def _check_rows(layer: str, outputs: list[Tensor], images: Tensor) -> None:
    for output in outputs:
        if output.ndim < 2 or output.shape[0] != images.shape[0]:
            raise ModelError(
                f"layer {layer!r} gives {tuple(output.shape)} for {images.shape[0]} images: its rows are not the "
                "images; name another layer"
            )
