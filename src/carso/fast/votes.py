"""The folded vote: the classes that N gives candidates, with bfloat16 products where that changes no vote.

    h_ik = phi(W_c c_i + b + W_z z_k)    first layer of D: the codes' part serves all latents, and theirs all codes
    l_ik = (N after the rest of D)(h_ik)    logits in float32;    l~_ik the same by bfloat16 products
    d    = 2 max |(l~ - l)_ik,a - (l~ - l)_ik,b|    over trial candidates of the same call and pairs of classes a, b

A candidate whose two largest l~ lie further than d apart gets the vote of l~; every other one is computed again in
float32. A vote could differ only if rounding moved the difference of two logits by more than twice the most that it
did on any trial candidate. That is a measured bound, not a proof from the weights, whose worst case is useless.

Source: ours; the sum of two parts is that of `carso.recall`, the folding that of `carso.fast.folding`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carso.fast.folding import Stage, chain, fold
from carso.fast.parts import Purifier
from carso.fast.products import Packed, product_dtype
from carso.types import Classifier, Codes, Counts, Latents, Logits, check_logits

ROWS = 4096
"""Candidates decoded at a time: with fewer, what a product costs besides its arithmetic shows (a tenth at 1024)."""

TRIAL = 1024
"""Candidates computed both ways to learn how far rounding moves them."""

WORTH = 16
"""Trials that a vote must be as large as before bfloat16 repays them."""


@dataclass(frozen=True)
class Sums:
    """The candidates' first pre-activations, as the parts that they are sums of.

    Args:
        codes: W_c c + b (B, hidden).
        latents: W_z z (K, hidden).
    """

    codes: Tensor
    latents: Tensor

    def all(self) -> Tensor:
        """Every sum, (B K, hidden), the latents varying fastest."""
        return (self.codes.unsqueeze(1) + self.latents).flatten(0, 1)

    def some(self, rows: Tensor) -> Tensor:
        """These rows of `all`."""
        return self.codes[rows // len(self.latents)] + self.latents[rows % len(self.latents)]

    def to(self, dtype: torch.dtype) -> Sums:
        """The same in another dtype."""
        return Sums(self.codes.to(dtype), self.latents.to(dtype))

    def by_codes(self) -> list[Sums]:
        """Split, so that at most `ROWS` sums are in each, or those of one code."""
        return [Sums(some, self.latents) for some in self.codes.split(max(1, ROWS // len(self.latents)))]

    def by_latents(self) -> list[Sums]:
        """Split, so that each has at most `ROWS` latents."""
        return [Sums(self.codes, few) for few in self.latents.tensor_split(math.ceil(len(self.latents) / ROWS))]


class FoldedVote:
    """Candidates' classes for one defence, whose weights are those of the moment it is made.

    Args:
        first: the first layer of D.
        stages: the other layers of D, then those of N.
        tail: what N applies to its last affine map.
        latent: how many columns of the first layer meet z.
        dtype: of the products of candidates that are not in doubt.
    """

    def __init__(self, first: Stage, stages: Sequence[Stage], tail: nn.Module, latent: int, dtype: torch.dtype) -> None:
        self.first, self.stages, self.tail, self.latent, self.dtype = first, stages, tail, latent, dtype
        self.exact = self._packed(torch.float32)
        self.rounded: list[Packed] = []
        self.doubt = torch.inf

    def prepare(self, latents: Latents, codes: Codes) -> None:
        """Take to rounded products, and learn d, if a vote of all latents (K, latent) and codes (B, code) repays it."""
        if self.dtype is torch.float32 or len(latents) * len(codes) < WORTH * TRIAL:
            return
        some = codes[:: max(1, len(codes) // 256)][:256]
        few = latents[:: max(1, len(latents) * len(some) // TRIAL)]
        sums = Sums(self.from_codes(some), self.from_latents(few))
        self.rounded = self._packed(self.dtype)
        moved = self._logits(self.rounded, sums.to(self.dtype).all()) - self._logits(self.exact, sums.all())
        self.doubt = 2 * float((moved.amax(1) - moved.amin(1)).max())

    def logits(self, latents: Latents, codes: Codes) -> Logits:
        """Logits (B, classes) of one latent (B, latent) per code (B, code), in float32."""
        return self._logits(self.exact, self.from_codes(codes) + self.from_latents(latents))

    def votes(self, latents: Latents, codes: Codes) -> Counts:
        """Votes (B, classes) of every latent (K, latent) with each code (B, code)."""
        exact = Sums(self.from_codes(codes), self.from_latents(latents))
        rounded = exact.to(self.dtype) if self.rounded else exact
        votes = [self._of_some(*both) for both in zip(exact.by_codes(), rounded.by_codes(), strict=True)]
        return torch.cat(votes)

    def from_latents(self, latents: Latents) -> Tensor:
        """W_z z (K, hidden)."""
        return F.linear(latents, self.first.weight[:, : self.latent])

    def from_codes(self, codes: Codes) -> Tensor:
        """W_c c + b (B, hidden)."""
        return F.linear(codes, self.first.weight[:, self.latent :], self.first.bias)

    def _of_some(self, exact: Sums, rounded: Sums) -> Counts:
        counts = [self._count(*both) for both in zip(exact.by_latents(), rounded.by_latents(), strict=True)]
        return torch.stack(counts).sum(0)

    def _count(self, exact: Sums, rounded: Sums) -> Counts:
        logits = self._decided(exact, rounded)
        check_logits(logits)
        classes = logits.argmax(1).view(len(exact.codes), -1)
        counts = torch.zeros(len(classes), logits.shape[1], dtype=torch.long, device=logits.device)
        return counts.scatter_add_(1, classes, torch.ones_like(classes))

    def _decided(self, exact: Sums, rounded: Sums) -> Tensor:
        """Logits (rows, classes) whose largest is that of float32."""
        if not self.rounded:
            return self._logits(self.exact, exact.all())
        logits = self._logits(self.rounded, rounded.all())
        best, second = logits.topk(2, dim=1).values.unbind(1)
        doubtful = (best - second <= self.doubt).nonzero().squeeze(1)
        return logits.index_copy_(0, doubtful, self._logits(self.exact, exact.some(doubtful)))

    def _packed(self, dtype: torch.dtype) -> list[Packed]:
        return [Packed(s.weight, s.bias, dtype, s.activation) for s in self.stages]

    def _logits(self, stages: Sequence[Packed], hidden: Tensor) -> Tensor:
        hidden = hidden if self.first.activation is None else self.first.activation(hidden)
        for stage in stages:
            hidden = stage(hidden)
        logits: Tensor = self.tail(hidden.float())
        return logits


def fold_vote(classifier: Classifier, purifier: Purifier, dtype: torch.dtype | None = None) -> FoldedVote | None:
    """The folded vote of a defence on the CPU, or None where its classifier is no chain of known layers.

    Args:
        classifier: N, in eval mode.
        purifier: likewise.
        dtype: of the products; by default bfloat16 where the processor has units for it.
    """
    folded, decoder = fold(classifier), chain(purifier.decoder)
    if folded is None or decoder is None or decoder[0].weight.is_cuda:
        return None
    first, *rest = decoder
    dtype = product_dtype(first.weight.device) if dtype is None else dtype
    return FoldedVote(first, [*rest, *folded.stages], folded.tail, purifier.latent, dtype)
