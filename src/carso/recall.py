"""Recall: from codes to purified candidates, and to their classes.

    x_ik = D(z_k, c_i)        z_k ~ N(0, I), k = 1..K, shared by the images i of one call

The first layer of D is linear in [z, c], so W [z_k, c_i] + b = W_z z_k + (W_c c_i + b): the latents' part is computed
once for all images and the codes' part once for all latents, and only their sum is formed K times. Every call tries
this on one pair; where the layer or `Purifier.decode` has been replaced, every pair is decoded by itself.

Source: thesis, section 3.2.4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from carso.errors import ModelError
from carso.fast import alike, voting
from carso.nn.chance import home
from carso.nn.fiwagr import is_randomised
from carso.nn.querying import query, widened
from carso.progress import shown
from carso.purifier import ConvolutionalPurifier, Purifier
from carso.types import Candidates, Classifier, Codes, Counts, Latents
from carso.vote import Stop, Tally, count, settled

Voting: TypeAlias = Callable[[Latents, Codes], Counts]

WORTH_FOLDING, WORTH_CONVOLVING = 1024, 256
"""Candidates in the first round from which on the vote is taken by a cheaper form (`carso.fast`), dense or not."""

DECODE = Purifier.decode
"""What D is taken for, before anybody replaces it."""

ROWS = 4096
"""Candidates of MNIST's size decoded at a time: enough to keep the processor busy, few enough to bound the memory."""

PIXELS = ROWS * 28 * 28
"""The same for candidates of any size."""

CONVOLVED, LEAST = 2**17, 8
"""Pixels, and candidates at least, at a time where convolutions make them: their maps are many times as large, and
those of a few candidates stay in a processor's cache."""


def draw(samples: int, purifier: Purifier, generator: torch.Generator | None, device: torch.device) -> Latents:
    """K latents (K, latent) from N(0, I), drawn where the generator lives and moved to `device`."""
    source = home(generator, device)
    z = torch.randn(samples, purifier.latent, generator=generator, device=source, dtype=torch.float32)
    return z.to(device)


def recall(purifier: Purifier, latents: Latents, codes: Codes) -> Candidates:
    """Candidates (B, K, C, H, W) in (0, 1): every latent (K, latent) with every code (B, code); differentiable.

    Raises:
        ModelError: if FiWAGR stands before the purifier or its decoder as a whole, neither of which is called.
    """
    if any(map(is_randomised, (purifier, purifier.decoder))):
        raise ModelError(
            "FiWAGR stands before the purifier or its decoder as a whole, where no gradient passes: "
            "put it before `purifier.maps` or a layer of `purifier.decoder`"
        )
    if not (len(codes) and len(latents)):
        return codes.new_zeros(len(codes), len(latents), *purifier.shape)
    form = _by_parts if _splits(purifier, latents[:1], codes[:1]) else _pair_by_pair
    return form(purifier, latents, codes).reshape(len(codes), len(latents), *purifier.shape)


def _by_parts(purifier: Purifier, latents: Latents, codes: Codes) -> Tensor:
    from_latents, from_codes = _parts(purifier, latents, codes)
    pixels = (from_codes.unsqueeze(1) + from_latents).flatten(0, 1)
    _, *hidden, sigmoid = purifier.decoder
    for layer in hidden:
        pixels = layer(pixels)
    images: Tensor = sigmoid(pixels if purifier.dtype == latents.dtype else pixels.to(latents.dtype))
    return images.to(latents.dtype)


def _parts(purifier: Purifier, latents: Latents, codes: Codes) -> tuple[Tensor, Tensor]:
    """W_z z (K, hidden) and W_c c + b (B, hidden)."""
    first, split = purifier.decoder[0], purifier.latent
    assert isinstance(first, nn.Linear)
    from_latents = F.linear(latents.to(purifier.dtype), first.weight[:, :split])
    return from_latents, F.linear(codes.to(purifier.dtype), first.weight[:, split:], first.bias)


def _pair_by_pair(purifier: Purifier, latents: Latents, codes: Codes) -> Tensor:
    return purifier.decode(latents.repeat(len(codes), 1), codes.repeat_interleave(len(latents), dim=0))


def _splits(purifier: Purifier, latents: Latents, codes: Codes) -> bool:
    """Whether D is the chain that it is taken for, and its first layer linear, which is tried on one pair."""
    first = purifier.decoder[0]
    if is_randomised(first):
        return False
    if getattr(purifier.decode, "__func__", None) is not DECODE or not isinstance(first, nn.Linear):
        return False
    if torch.compiler.is_compiling():
        return True
    with torch.no_grad(), torch.autocast(codes.device.type, enabled=False):
        from_latents, from_codes = _parts(purifier, latents, codes)
        joined = first(torch.cat([latents, codes], dim=1).to(purifier.dtype))
        return alike(from_codes + from_latents, joined, typical=torch.max)


def classify(classifier: Classifier, candidates: Candidates) -> Tensor:
    """Logits (B, K, classes) of candidates (B, K, C, H, W)."""
    logits = query(classifier, candidates.flatten(0, 1)).to(widened(candidates.dtype))
    return logits.view(*candidates.shape[:2], logits.shape[1])


def poll(classifier: Classifier, purifier: Purifier, latents: Latents, codes: Codes, stop: Stop, error: float) -> Tally:
    """Vote of the candidates of each code (B, code), in rounds, until `vote.settled` or the latents are used up."""
    samples = len(latents)
    open_ = torch.arange(len(codes), device=codes.device)
    used = torch.full((len(codes),), samples, dtype=torch.long, device=codes.device)
    counts: Counts | None = None
    looks = list(rounds(samples, stop))
    cast = _voting(classifier, purifier, latents[: looks[0][1]], codes)
    for start, end in looks:
        votes = cast(latents[start:end], codes[open_])
        counts = votes if counts is None else counts.index_add(0, open_, votes)
        if end == samples:
            break
        decided = settled(counts[open_], end, samples, stop, error)
        used[open_[decided]] = end
        open_ = open_[~decided]
        if len(open_) == 0:
            break
    assert counts is not None
    return Tally(counts, used)


def rounds(samples: int, stop: Stop) -> Iterator[tuple[int, int]]:
    """Intervals of sample indices between two looks at the tally, the first as long as a unanimous vote needs."""
    first, growth = {"never": (samples, 1.0), "exact": (samples // 2 + 1, 1.06), "confident": (20, 1.25)}[stop]
    start, end = 0, min(first, samples)
    while start < samples:
        yield start, end
        start, end = end, min(samples, max(end + 5, round(end * growth)))


def _voting(classifier: Classifier, purifier: Purifier, latents: Latents, codes: Codes) -> Voting:
    """By a cheaper form where there is one and the first round is large enough to repay its making."""
    worth = WORTH_CONVOLVING if isinstance(purifier, ConvolutionalPurifier) else WORTH_FOLDING
    large = len(latents) * len(codes) >= worth and not torch.compiler.is_compiling()
    folded = voting(classifier, purifier, latents, codes) if large else None
    return folded or partial(_votes, classifier, purifier)


def _votes(classifier: Classifier, purifier: Purifier, latents: Latents, codes: Codes) -> Counts:
    rows = at_a_time(purifier)
    images = _shown(codes.split(max(1, rows // len(latents))), "votes of images")
    return torch.cat([_votes_of_few(classifier, purifier, latents, some, rows) for some in images])


def _votes_of_few(classifier: Classifier, purifier: Purifier, latents: Latents, codes: Codes, rows: int) -> Counts:
    parts = _shown(latents.split(rows), "candidates")
    return torch.stack([count(classify(classifier, recall(purifier, some, codes))) for some in parts]).sum(0)


def at_a_time(purifier: Purifier) -> int:
    """Candidates decoded and classified at a time, by which the memory of a vote is bounded."""
    pixels = math.prod(purifier.shape)
    if isinstance(purifier, ConvolutionalPurifier):
        return max(LEAST, CONVOLVED // pixels)
    return max(1, PIXELS // pixels)


def _shown(parts: Sequence[Tensor], description: str) -> Iterable[Tensor]:
    """The parts, with their progress where nobody traces them."""
    return parts if torch.compiler.is_compiling() else shown(parts, description)
