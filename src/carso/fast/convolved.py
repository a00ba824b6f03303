"""The vote on candidates that convolutions make, by `carso.fast.votes`: D and N in cheaper forms.

    l_ik = N(sigmoid(D_2..n(h_ik)))    D_2..n: the layers of D between the first and the sigmoid;    h_ik as there

Both are networks of `carso.fast.network`: batch norms folded, transposed convolutions' too, channels last, and bfloat16
after the first convolution of each, so that the candidate itself, an image, is float32.

Source: ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from carso.fast.folding import Stage
from carso.fast.network import Network, is_plain, network
from carso.fast.parts import Purifier
from carso.fast.products import product_dtype
from carso.fast.votes import FoldedVote, Split
from carso.types import Classifier, Logits

TRIAL, WORTH = 64, 4
"""Candidates computed both ways to learn how far rounding moves them, and trials that a vote must be as large as."""

ROWS = 32
"""Candidates at a time, at least: with fewer, what an operation costs besides its arithmetic shows."""


@dataclass(frozen=True)
class Convolved:
    """What follows on the sums.

    Args:
        maps: what shape they have as maps (C, H, W).
        decoder: D_2..n.
        classifier: N.
    """

    maps: tuple[int, ...]
    decoder: nn.Module
    classifier: nn.Module

    def __call__(self, hidden: Tensor) -> Logits:
        """Logits (rows, classes) of sums (rows, hidden)."""
        maps = hidden.float().view(-1, *self.maps).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.classifier(self.decoder(maps).sigmoid())
        return logits


@dataclass(frozen=True)
class Parts:
    """D behind its first layer, and N.

    Args:
        maps: what shape the sums have as maps (C, H, W).
        decoder: D_2..n in a cheaper form.
        classifier: N in one.
    """

    maps: tuple[int, ...]
    decoder: Network
    classifier: Network

    def form(self, dtype: torch.dtype) -> Convolved:
        """Both in float32, or as they come."""
        exact = dtype is torch.float32
        return Convolved(self.maps, *(part.exact if exact else part for part in (self.decoder, self.classifier)))


def convolved(classifier: Classifier, purifier: Purifier) -> Parts | None:
    """What follows on the sums, or None where D is no chain of convolutions or N no plain network of them.

    Args:
        classifier: N, in eval mode.
        purifier: likewise.
    """
    if not is_plain(classifier):
        return None
    first, *layers = purifier.decoder
    if not (isinstance(first, nn.Linear) and len(layers) > 3 and isinstance(layers[1], nn.Unflatten)):
        return None
    activation, unflatten, *middle, last = layers
    if not isinstance(last, nn.Sigmoid) or first.weight.is_cuda or first.weight.dtype != torch.float32:
        return None
    shape = torch.Size(cast("tuple[int, ...]", unflatten.unflattened_size))
    example = torch.zeros(1, *shape)
    decoder = network(nn.Sequential(activation, *middle).eval(), example)
    named = None if decoder is None else network(classifier, decoder.exact(example).sigmoid())
    return None if decoder is None or named is None else Parts(shape, decoder, named)


def convolve_vote(classifier: Classifier, purifier: Purifier, dtype: torch.dtype | None = None) -> FoldedVote | None:
    """The vote of a defence on the CPU, or None as for `convolved`.

    Args:
        classifier: N, in eval mode.
        purifier: likewise.
        dtype: of the products; by default bfloat16 where the processor multiplies it faster.
    """
    parts, first = convolved(classifier, purifier), purifier.decoder[0]
    if parts is None:
        return None
    assert isinstance(first, nn.Linear)
    rows = max(ROWS, min(parts.decoder.batch, parts.classifier.batch))
    dtype = product_dtype(first.weight.device) if dtype is None else dtype
    sums = Split(Stage(first.weight, first.bias), purifier.latent)
    return FoldedVote(sums, parts.form, dtype, rows, TRIAL, WORTH)
