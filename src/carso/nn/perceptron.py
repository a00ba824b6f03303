"""Multilayer perceptrons: the dense networks from which purifiers and generative models are made.

    h_{l+1} = BatchNorm(LeakyReLU(W_l h_l + b_l))        y = last(W_L h_L + b_L)

Source: E. Ballarin, MSc thesis, University of Trieste, 2022, section 3.3; slope 0.1, batch norm last.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

SLOPE = 0.1
"""Of LeakyReLU."""


def perceptron(
    sizes: Sequence[int], last: nn.Module, *, bare_last_hidden: bool = False, normalised: bool = True
) -> nn.Sequential:
    """Linear maps between layers of these sizes, the first of which is the input.

    Args:
        sizes: neurons of input, hidden layers and output.
        last: what follows the last linear map.
        bare_last_hidden: leave the last hidden layer without batch norm.
        normalised: whether there is batch norm at all.
    """
    layers: list[nn.Module] = []
    hidden = list(pairwise(sizes))[:-1]
    for i, (inputs, outputs) in enumerate(hidden):
        layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(SLOPE)]
        if normalised and not (bare_last_hidden and i == len(hidden) - 1):
            layers.append(nn.BatchNorm1d(outputs))
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]), last)
