"""The folded vote: the classes that N gives candidates, with bfloat16 products where that changes no vote.

    h_ik = W_c c_i + b + W_z z_k    first layer of D: the codes' part serves all latents, and theirs all codes
    l_ik = (N after the rest of D)(h_ik)    logits in float32;    l~_ik the same by bfloat16 products
    d    = 2 max |(l~ - l)_ik,a - (l~ - l)_ik,b|    over trial candidates of the same call and pairs of classes a, b

A candidate whose two largest l~ lie further than d apart gets the vote of l~; every other one is computed again in
float32. A vote could differ only if rounding moved the difference of two logits by more than twice the most that it
did on any trial candidate. That is a measured bound, not a proof from the weights, whose worst case is useless.

Source: ours; the sum of two parts is that of `carso.recall`, the folding that of `carso.fast.folding`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carso.fast.folding import Stage, chain, fold
from carso.fast.parts import Purifier
from carso.fast.products import Packed, product_dtype
from carso.nn.contrast import Contrast
from carso.progress import shown
from carso.types import Classifier, Codes, Counts, Latents, Logits, check_logits

Form: TypeAlias = Callable[[Tensor], Tensor]
S = TypeVar("S", bound="Sums")

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

    @staticmethod
    def joined(codes: Tensor, latents: Tensor) -> Tensor:
        """The sums (..., hidden) of these parts (..., hidden)."""
        return codes + latents

    def all(self) -> Tensor:
        """Every sum, (B K, hidden), the latents varying fastest."""
        return self.joined(self.codes.unsqueeze(1), self.latents).flatten(0, 1)

    def some(self, rows: Tensor) -> Tensor:
        """These rows of `all`."""
        return self.joined(self.codes[rows // len(self.latents)], self.latents[rows % len(self.latents)])

    def each(self) -> Tensor:
        """The sums (B, hidden) of one latent per code, B of either."""
        return self.joined(self.codes, self.latents)

    def to(self: S, dtype: torch.dtype) -> S:
        """The same in another dtype."""
        return replace(self, codes=self.codes.to(dtype), latents=self.latents.to(dtype))

    def by_codes(self: S, rows: int) -> list[S]:
        """Split, so that at most so many sums are in each, or those of one code."""
        return [replace(self, codes=some) for some in self.codes.split(max(1, rows // len(self.latents)))]

    def by_latents(self: S, rows: int) -> list[S]:
        """Split, so that each has at most so many latents."""
        return [replace(self, latents=few) for few in self.latents.tensor_split(math.ceil(len(self.latents) / rows))]


@dataclass(frozen=True)
class Split:
    """The first layer of D in its two parts.

    Args:
        first: its affine map.
        latent: how many of its columns meet z.
    """

    first: Stage
    latent: int

    def __call__(self, latents: Latents, codes: Codes) -> Sums:
        """W_z z of latents (K, latent) and W_c c + b of codes (B, code)."""
        from_codes = F.linear(codes, self.first.weight[:, self.latent :], self.first.bias)
        return Sums(from_codes, F.linear(latents, self.first.weight[:, : self.latent]))


class FoldedVote:
    """Candidates' classes for one defence, whose weights are those of the moment it is made.

    Args:
        sums: what latents (K, latent) and codes (B, code) are before they are joined.
        form: dtype of products -> what makes logits (rows, classes) in float32 of sums h (rows, hidden) in that dtype.
        dtype: of the products of candidates that are not in doubt.
        rows: candidates at a time.
        trial: candidates computed both ways to learn how far rounding moves them.
        worth: trials that a vote must be as large as before `dtype` repays them.
    """

    def __init__(
        self,
        sums: Callable[[Latents, Codes], Sums],
        form: Callable[[torch.dtype], Form],
        dtype: torch.dtype,
        rows: int,
        trial: int,
        worth: int,
    ) -> None:
        self.sums, self.form, self.dtype = sums, form, dtype
        self.rows, self.trial, self.worth = rows, trial, worth
        self.exact = form(torch.float32)
        self.low: Form | None = None
        self.doubt = torch.inf

    def prepare(self, latents: Latents, codes: Codes) -> None:
        """Take to `dtype`, and learn d, if a vote of all latents (K, latent) and codes (B, code) repays it."""
        if self.dtype is torch.float32 or len(latents) * len(codes) < self.worth * self.trial:
            return
        most = self.trial // 4
        some = codes[:: max(1, len(codes) // most)][:most]
        few = latents[:: max(1, len(latents) * len(some) // self.trial)]
        sums = self.sums(few, some)
        self.low = self.form(self.dtype)
        moved = self.low(sums.to(self.dtype).all()) - self.exact(sums.all())
        self.doubt = 2 * float((moved.amax(1) - moved.amin(1)).max())

    def logits(self, latents: Latents, codes: Codes) -> Logits:
        """Logits (B, classes) of one latent (B, latent) per code (B, code), in float32."""
        return self.exact(self.sums(latents, codes).each())

    def votes(self, latents: Latents, codes: Codes) -> Counts:
        """Votes (B, classes) of every latent (K, latent) with each code (B, code)."""
        exact = self.sums(latents, codes)
        low = exact.to(self.dtype) if self.low else exact
        both = list(zip(*(each.by_codes(self.rows) for each in (exact, low)), strict=True))
        return torch.cat([self._of_some(*some) for some in shown(both, "votes of images")])

    def _of_some(self, exact: Sums, low: Sums) -> Counts:
        both = list(zip(*(each.by_latents(self.rows) for each in (exact, low)), strict=True))
        return torch.stack([self._count(*few) for few in shown(both, "candidates")]).sum(0)

    def _count(self, exact: Sums, low: Sums) -> Counts:
        logits = self._decided(exact, low)
        check_logits(logits)
        classes = logits.argmax(1).view(len(exact.codes), -1)
        counts = torch.zeros(len(classes), logits.shape[1], dtype=torch.long, device=logits.device)
        return counts.scatter_add_(1, classes, torch.ones_like(classes))

    def _decided(self, exact: Sums, low: Sums) -> Tensor:
        """Logits (rows, classes) whose largest is that of float32."""
        if self.low is None:
            return self.exact(exact.all())
        logits = self.low(low.all())
        best, second = logits.topk(2, dim=1).values.unbind(1)
        doubtful = (best - second <= self.doubt).nonzero().squeeze(1)
        return logits.index_copy_(0, doubtful, self.exact(exact.some(doubtful))) if len(doubtful) else logits


@dataclass(frozen=True)
class Chain:
    """What follows on the sums: D's first non-linearity and other steps, N's contrast, its steps, and its tail."""

    activation: nn.Module | None
    decoder: list[Packed]
    contrast: Contrast | None
    classifier: list[Packed]
    tail: nn.Module

    def __call__(self, hidden: Tensor) -> Logits:
        """Logits (rows, classes) of sums (rows, hidden)."""
        hidden = hidden if self.activation is None else self.activation(hidden)
        for stage in self.decoder:
            hidden = stage(hidden)
        hidden = hidden if self.contrast is None else self.contrast.spread(hidden)
        for stage in self.classifier:
            hidden = stage(hidden)
        logits: Tensor = self.tail(hidden.float())
        return logits


def fold_vote(classifier: Classifier, purifier: Purifier, dtype: torch.dtype | None = None) -> FoldedVote | None:
    """The folded vote on the CPU, or None where its classifier is no chain of known layers.

    Args:
        classifier: N, in eval mode.
        purifier: likewise.
        dtype: of the products; by default bfloat16 where the processor multiplies it faster.
    """
    folded, decoder = fold(classifier), chain(purifier.decoder)
    if folded is None or decoder is None or decoder[0].weight.is_cuda:
        return None
    first, *rest = decoder
    dtype = product_dtype(first.weight.device) if dtype is None else dtype

    def form(dtype: torch.dtype) -> Chain:
        parts = ([Packed(s.weight, s.bias, dtype, s.activation) for s in stages] for stages in (rest, folded.stages))
        decoder, classifier = parts
        return Chain(first.activation, decoder, folded.contrast, classifier, folded.tail)

    return FoldedVote(Split(first, purifier.latent), form, dtype, ROWS, TRIAL, WORTH)
