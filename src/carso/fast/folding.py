"""A chain of layers in eval mode, folded into affine maps and non-linearities.

    h_1 = W_1 y(x) + b_1,    h_{i+1} = W_{i+1} phi_i(h_i) + b_{i+1},    z = h_n

    x       image, flattened
    y       contrast (`carso.nn.contrast`), if the chain begins with it, or x itself
    h_i     pre-activations
    phi_i   element-wise non-linearity
    z       logits

Standardisation and batch norm are affine in eval mode and vanish into W and b; dropout is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carso.nn.contrast import Contrast
from carso.nn.standardise import Standardise

ELEMENTWISE = (nn.ELU, nn.GELU, nn.LeakyReLU, nn.Mish, nn.ReLU, nn.Sigmoid, nn.SiLU, nn.Softplus, nn.Tanh)
PREFIXES = ([nn.Flatten], [Standardise, nn.Flatten])
"""What may come before the chain, contrast aside, which may come before everything."""
CHAIN = {nn.Linear, nn.BatchNorm1d, *ELEMENTWISE}
TAIL = {nn.LogSoftmax, nn.BatchNorm1d, *ELEMENTWISE}


@dataclass
class Stage:
    """An affine map W, b and the non-linearity phi that follows it, if any."""

    weight: Tensor
    bias: Tensor
    activation: nn.Module | None = None


@dataclass(frozen=True)
class Folded:
    """The folded chain, what the model applies to its last affine map (often nothing), and to images before it."""

    stages: tuple[Stage, ...]
    tail: nn.Sequential
    contrast: Contrast | None = None

    def __call__(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1]."""
        h = (images if self.contrast is None else self.contrast(images)).flatten(1)
        for stage in self.stages:
            h = F.linear(h, stage.weight, stage.bias)
            h = h if stage.activation is None else stage.activation(h)
        logits: Tensor = self.tail(h)
        return logits


def fold(model: object) -> Folded | None:
    """Fold a model, or return None where that cannot be done.

    A model folds if it is a chain, nested in nn.Sequential or not, of Contrast and Standardise if it has them, Flatten,
    Linear layers with BatchNorm1d, Dropout and element-wise non-linearities between them, and at the end whatever of
    these acts on the logits, or LogSoftmax; all of it float32, in eval mode and without hooks. The weights are those of
    this moment.
    """
    layers = [layer for layer in _layers(model) if not _identity(layer)]
    contrast = _contrast(layers)
    layers = layers if contrast is None else layers[1:]
    kinds = [type(layer) for layer in layers]
    if nn.Flatten not in kinds or nn.Linear not in kinds or not all(_plain(layer) for layer in layers):
        return None
    start, end = kinds.index(nn.Flatten) + 1, len(kinds) - kinds[::-1].index(nn.Linear)
    if kinds[:start] not in PREFIXES or not set(kinds[start:end]) <= CHAIN or not set(kinds[end:]) <= TAIL:
        return None
    stages = _stages([*layers[: start - 1], *layers[start:end]])
    return None if stages is None else Folded(tuple(stages), nn.Sequential(*layers[end:]), contrast)


def _contrast(layers: list[nn.Module]) -> Contrast | None:
    """The contrast that the layers begin with, if they do."""
    first = layers[0] if layers else None
    return first if type(first) is Contrast and _plain(first) else None


def chain(module: nn.Sequential) -> list[Stage] | None:
    """The stages of a chain of Linear, BatchNorm1d, Dropout and element-wise layers in eval mode, or None if it is not.

    It must begin with a Linear and not end with a batch norm, which would have nothing to be folded into.
    """
    layers = [layer for layer in _layers(module) if not _identity(layer)]
    if not layers or type(layers[0]) is not nn.Linear or not all(_plain(layer) for layer in layers):
        return None
    known = {type(layer) for layer in layers} <= CHAIN and type(layers[-1]) is not nn.BatchNorm1d
    return _stages(layers) if known else None


def _layers(module: object) -> Iterator[nn.Module]:
    """The layers in order, nested chains opened; a module of another kind is one layer."""
    if _is_chain(module):
        for child in module:
            yield from _layers(child)
    elif isinstance(module, nn.Module):
        yield module


def _is_chain(module: object) -> TypeGuard[nn.Sequential]:
    if not isinstance(module, nn.Sequential) or _hooked(module) or _altered(module):
        return False
    return type(module).forward is nn.Sequential.forward


def _altered(module: nn.Module) -> bool:
    """Whether this one module has a forward of its own beside that of its class."""
    return "forward" in vars(module)


def hooked_among(modules: Iterable[nn.Module]) -> bool:
    """Whether one of the modules has hooks, which may change a gradient and leave the answers as they are."""
    return any(map(_hooked, modules))


def _hooked(module: nn.Module) -> bool:
    return any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks))


def _identity(layer: nn.Module) -> bool:
    return type(layer) in (nn.Identity, nn.Dropout) and not (layer.training or _hooked(layer) or _altered(layer))


def _plain(layer: nn.Module) -> bool:
    """Whether a layer of a known kind does what its kind is known for."""
    if _hooked(layer) or _altered(layer) or any(p.dtype != torch.float32 for p in layer.parameters()):
        return False
    if isinstance(layer, nn.Flatten):
        return (layer.start_dim, layer.end_dim) == (1, -1)
    if isinstance(layer, nn.BatchNorm1d):
        return not layer.training and layer.running_mean is not None
    return layer.dim in (1, -1) if isinstance(layer, nn.LogSoftmax) else True


@torch.no_grad()
def _stages(layers: list[nn.Module]) -> list[Stage] | None:
    """Affine layers merged with the Linear before or after them; None if there is none."""
    stages: list[Stage] = []
    waiting: tuple[Tensor, Tensor] | None = None
    for layer in layers:
        linear_before = bool(stages) and stages[-1].activation is None
        if isinstance(layer, nn.Linear):
            stages.append(_merged(layer, waiting))
            waiting = None
        elif linear_before and type(layer) in ELEMENTWISE:
            stages[-1].activation = layer
        elif linear_before:
            scale, shift = _scale_and_shift(layer)
            stages[-1] = Stage(scale[:, None] * stages[-1].weight, scale * stages[-1].bias + shift)
        elif waiting is None and type(layer) not in ELEMENTWISE:
            waiting = _scale_and_shift(layer)
        else:
            return None
    return stages


def _scale_and_shift(layer: nn.Module) -> tuple[Tensor, Tensor]:
    """A layer that is affine per feature, or per channel, in eval mode."""
    if isinstance(layer, nn.BatchNorm1d):
        mean, deviation = layer.get_buffer("running_mean"), (layer.get_buffer("running_var") + layer.eps).sqrt()
        scale = (1 if layer.weight is None else layer.weight) / deviation
        return scale, (0 if layer.bias is None else layer.bias) - scale * mean
    mean, deviation = layer.get_buffer("mean").flatten(), layer.get_buffer("std").flatten()
    return 1 / deviation, -mean / deviation


def _merged(linear: nn.Linear, before: tuple[Tensor, Tensor] | None) -> Stage:
    """W (scale x + shift) + b as one affine map; the scale of a channel serves all its pixels."""
    weight = linear.weight.detach()
    bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()
    if before is None:
        return Stage(weight, bias)
    scale, shift = (value.repeat_interleave(weight.shape[1] // len(value)) for value in before)
    return Stage(weight * scale, bias + weight @ shift)
