"""A defence whose purifier corrects the image, as whoever differentiates it wants it.

    a_1, ..., a_M = layers of N on x,    c = R(a_1, ..., a_M),    l = N(V_z D(z, c))

N is read by one graph that returns the layers themselves, and answers as a network of `carso.fast.network`; R and D are
copies whose weights get no gradient, with their products in bfloat16.

Source: the chain is that of `carso.correction`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor, nn

from carso.fast.folding import hooked_among
from carso.fast.network import Network, Reading, network, reading
from carso.fast.parts import Purifier
from carso.fast.products import low_precision
from carso.nn.correction import Reader
from carso.types import CandidateLogits, Codes, Images


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
        self.classifier = classifier.exact if exact else classifier
        self.purifier, self.exact = purifier, exact

    def __call__(self, images: Images, latents: Tensor) -> CandidateLogits:
        """Logits (B, K, classes) of candidates, differentiable in the images.

        Args:
            images: (B, C, H, W) in [0, 1].
            latents: z, shared by the images (K, latent) or each image's own (B, K, latent).
        """
        codes, z = self.codes(images), latents.expand(len(images), -1, -1)
        rows = codes.repeat_interleave(z.shape[1], dim=0)
        with self._products(images):
            candidates = self.purifier.decode(z.flatten(0, 1), rows)
        logits: Tensor = self.classifier(candidates.contiguous(memory_format=torch.channels_last))
        return logits.view(*z.shape[:2], -1)

    def codes(self, images: Images) -> Codes:
        """c (B, code), differentiable in the images."""
        outputs = self.read(images.contiguous(memory_format=torch.channels_last))
        reader = self.purifier.maps
        assert isinstance(reader, Reader)
        with self._products(images):
            return reader.read([a.float() for a in outputs])

    def _products(self, images: Images) -> AbstractContextManager[object]:
        return torch.autocast(images.device.type, enabled=False) if self.exact else low_precision(images.device)


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
    frozen = copy.deepcopy(cast(nn.Module, purifier)).requires_grad_(False)
    frozen.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    exact, low = (CorrectedDefence(read, cast(Purifier, frozen), answers, exact) for exact in (True, False))
    return exact, low, min(read.batch, answers.batch)
