"""The sizes of an actual defence, as the architecture figures show them."""

from __future__ import annotations

import math

import torch
from torch import nn

from carso.defence import CARSO
from carso.report.architecture import Blueprint
from carso.representation import INPUT


def blueprint(defence: CARSO) -> Blueprint:
    """Read the sizes off the modules."""
    purifier = defence.purifier
    sizes = defence.representation.sizes(torch.zeros(1, *purifier.shape))
    named = dict(defence.classifier.named_modules())
    taps = [neurons for layer, neurons in sizes.items() if layer != INPUT or layer in named]
    return Blueprint(
        image=purifier.shape,
        classifier=(math.prod(purifier.shape), *taps),
        classes=defence.classes,
        image_encoder=_layers(purifier.image_encoder),
        representation_encoder=_after(purifier.neurons, _layers(purifier.representation_encoder)),
        encoder=_layers(purifier.encoder),
        latent=purifier.latent,
        decoder=_layers(purifier.decoder),
        samples=defence.samples,
        parameters=(_parameters(defence.classifier), _parameters(purifier)),
    )


def _layers(network: nn.Module) -> tuple[int, ...]:
    linears = [layer for layer in network.modules() if isinstance(layer, nn.Linear)]
    return (linears[0].in_features, *(layer.out_features for layer in linears))


def _after(neurons: int, layers: tuple[int, ...]) -> tuple[int, ...]:
    return layers if layers[0] == neurons else (neurons, *layers)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
