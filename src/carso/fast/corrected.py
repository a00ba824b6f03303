"""A defence whose purifier corrects the image, as whoever differentiates it wants it, and the vote on its candidates.

    a_1, ..., a_M = layers of N on x,    c = R(a_1, ..., a_M),    l = N(V_z D(z, c))

N is read by one graph that returns the layers themselves, and answers as a network of `carso.fast.network`; R and D are
copies whose weights get no gradient, with their products in bfloat16. The vote is that of `carso.fast.votes`: it takes
the same l from [z, c], and candidates that bfloat16 leaves in doubt are computed again in float32.

Source: the chain is that of `carso.correction`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from carso.fast.convolved import ROWS, TRIAL, WORTH
from carso.fast.folding import hooked_among
from carso.fast.network import Network, Reading, network, reading
from carso.fast.parts import Purifier
from carso.fast.products import low_precision, product_dtype
from carso.fast.votes import FoldedVote, Form, Sums
from carso.nn.correction import Reader
from carso.types import CandidateLogits, Classifier, Codes, Images, Latents, Logits


@dataclass(frozen=True)
class Recalled:
    """What follows on a latent and a code.

    Args:
        purifier: D, frozen.
        classifier: N.
        exact: whether everything is float32.
    """

    purifier: Purifier
    classifier: nn.Module
    exact: bool

    def __call__(self, latents: Latents, codes: Codes) -> Logits:
        """Logits (B, classes) of the candidates of one latent (B, latent) per code (B, code)."""
        with self.products(codes.device):
            candidates = self.purifier.decode(latents, codes)
        logits: Tensor = self.classifier(candidates.contiguous(memory_format=torch.channels_last))
        return logits

    def of_pairs(self, rows: Tensor) -> Logits:
        """Logits (B, classes) of [z, c] (B, latent + code)."""
        latent = self.purifier.latent
        return self(rows[:, :latent], rows[:, latent:])

    def products(self, device: torch.device) -> AbstractContextManager[object]:
        """A context in which products are in the dtype that they are to have."""
        return torch.autocast(device.type, enabled=False) if self.exact else low_precision(device)


class Pairs(Sums):
    """Latents z (K, latent) and codes c (B, code), which nothing is done to before D: [z, c] in place of sums."""

    @staticmethod
    def joined(codes: Tensor, latents: Tensor) -> Tensor:
        """[z, c] (..., latent + code) of these parts."""
        leading = torch.broadcast_shapes(codes.shape[:-1], latents.shape[:-1])
        return torch.cat([part.expand(*leading, -1) for part in (latents, codes)], dim=-1)

    def to(self, dtype: torch.dtype) -> Pairs:
        """As they are: a code holds the image, and an image is not rounded."""
        return self


class CorrectedDefence:
    """A classifier and its purifier; the weights are those of the moment it is made.

    Args:
        read: N up to the layers that make r.
        purifier: R and D, frozen.
        classifier: N.
        exact: whether everything is float32.
    """

    def __init__(self, read: Reading, purifier: Purifier, classifier: Network, exact: bool) -> None:
        self.read = read.exact if exact else read
        self.recalled = Recalled(purifier, classifier.exact if exact else classifier, exact)

    def __call__(self, images: Images, latents: Tensor) -> CandidateLogits:
        """Logits (B, K, classes) of candidates, differentiable in the images.

        Args:
            images: (B, C, H, W) in [0, 1].
            latents: z, shared by the images (K, latent) or each image's own (B, K, latent).
        """
        codes, z = self.codes(images), latents.expand(len(images), -1, -1)
        rows = codes.repeat_interleave(z.shape[1], dim=0)
        return self.recalled(z.flatten(0, 1), rows).view(*z.shape[:2], -1)

    def codes(self, images: Images) -> Codes:
        """c (B, code), differentiable in the images."""
        outputs = self.read(images.contiguous(memory_format=torch.channels_last))
        reader = self.recalled.purifier.maps
        assert isinstance(reader, Reader)
        with self.recalled.products(images.device):
            return reader.read([a.float() for a in outputs])


def correct_defence(
    classifier: nn.Module, purifier: Purifier, layers: Sequence[str], images: Images
) -> tuple[CorrectedDefence, CorrectedDefence, int] | None:
    """The defence in float32, the same with rounded products, and how many images at a time are best; None for others.

    Args:
        classifier: N, in eval mode.
        purifier: likewise.
        layers: whose activations make the representation, in order.
        images: (B, C, H, W), of which the first shows which layers run.
    """
    if not isinstance(purifier.maps, Reader) or hooked_among(purifier.modules()):
        return None
    read, answers = reading(classifier, layers, images), network(classifier, images)
    if read is None or answers is None:
        return None
    frozen = _frozen(purifier)
    exact, low = (CorrectedDefence(read, frozen, answers, exact) for exact in (True, False))
    return exact, low, min(read.batch, answers.batch)


def correct_vote(classifier: Classifier, purifier: Purifier, dtype: torch.dtype | None = None) -> FoldedVote | None:
    """The vote of a defence on the CPU, or None where its purifier does not correct or N is no plain network.

    Args:
        classifier: N, in eval mode.
        purifier: likewise.
        dtype: of the products; by default bfloat16 where the processor multiplies it faster.
    """
    reader = purifier.maps
    if not isinstance(reader, Reader) or reader.mapped.weight.is_cuda or hooked_among(purifier.modules()):
        return None
    answers = network(classifier, torch.zeros(1, *reader.shape))
    if answers is None:
        return None
    frozen = _frozen(purifier)

    def form(dtype: torch.dtype) -> Form:
        exact = dtype is torch.float32
        return Recalled(frozen, answers.exact if exact else answers, exact).of_pairs

    dtype = product_dtype(reader.mapped.weight.device) if dtype is None else dtype
    return FoldedVote(lambda latents, codes: Pairs(codes, latents), form, dtype, max(ROWS, answers.batch), TRIAL, WORTH)


def _frozen(purifier: Purifier) -> Purifier:
    """A copy whose weights get no gradient, laid out as processors read them fastest."""
    frozen = copy.deepcopy(cast(nn.Module, purifier)).requires_grad_(False).eval()
    frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return cast(Purifier, frozen)
