"""A defence with convolutions as a whole, as whoever differentiates it wants it: read once, then its parts in a row.

    a_1, ..., a_M = layers of N on x,    c = R(k_1(a_1), ..., k_M(a_M))
    h = W_c c + b + W_z z,               l = N(sigmoid(D_2..n(h)))

N is read by one graph that returns the layers themselves, so that no representation is flattened, rounded up and taken
apart again; k_i, D and N are networks of `carso.fast.network`.

Source: the chain is that of `carso.defence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from carso.fast.convolved import Convolved, convolved
from carso.fast.folding import chain, hooked_among
from carso.fast.network import Network, Reading, network, reading
from carso.fast.parts import Purifier
from carso.fast.products import Affine, product_dtype
from carso.nn.convolutional import Compressor
from carso.types import CandidateLogits, Codes, Images


class ConvolvedDefence(nn.Module):
    """A classifier and its convolutional purifier; the weights are those of the moment it is made.

    Args:
        read: N up to the layers that make r.
        compressors: k_i; None for a layer that is passed on.
        code: the linear map to c, and its non-linearity.
        latents: W_z (hidden, latent).
        first: W_c and b.
        rest: what follows on the sums.
    """

    def __init__(
        self,
        read: nn.Module,
        compressors: Sequence[nn.Module | None],
        code: tuple[Affine, nn.Module | None],
        latents: Tensor,
        first: Affine,
        rest: Convolved,
    ) -> None:
        super().__init__()
        self.read, self.compressors, self.code = read, compressors, code
        self.columns, self.first, self.rest = latents, first, rest

    def forward(self, images: Images, latents: Tensor) -> CandidateLogits:
        """Logits (B, K, classes) of candidates, differentiable in the images.

        Args:
            images: (B, C, H, W) in [0, 1].
            latents: z, shared by the images (K, latent) or each image's own (B, K, latent).
        """
        hidden = self.first(self.codes(images)).unsqueeze(1) + F.linear(latents, self.columns)
        return self.rest(hidden.flatten(0, 1)).view(*hidden.shape[:2], -1)

    def codes(self, images: Images) -> Codes:
        """c (B, code), differentiable in the images."""
        maps = zip(self.compressors, self.read(images), strict=True)
        features = [(a.float() if k is None else k(a.float())).flatten(1) for k, a in maps]
        affine, activation = self.code
        codes = affine(torch.cat(features, dim=1))
        return codes if activation is None else activation(codes)


def convolve_defence(
    classifier: nn.Module, purifier: Purifier, layers: Sequence[str], images: Images
) -> tuple[ConvolvedDefence, ConvolvedDefence, int] | None:
    """The defence in float32, the same with rounded products, and how many images at a time are best; None for others.

    Args:
        classifier: N, in eval mode.
        purifier: likewise.
        layers: whose activations make the representation, in order.
        images: (B, C, H, W), of which the first shows which layers run.
    """
    maps, code = purifier.maps, chain(purifier.representation_encoder)
    if not isinstance(maps, Compressor) or code is None or len(code) != 1 or hooked_among(purifier.modules()):
        return None
    rest, read = convolved(classifier, purifier), reading(classifier, layers, images)
    if rest is None or read is None:
        return None
    compressors = _compressors(maps, read, images)
    if compressors is None:
        return None
    first, split = purifier.decoder[0], purifier.latent
    assert isinstance(first, nn.Linear)

    def form(dtype: torch.dtype) -> ConvolvedDefence:
        exact = dtype is torch.float32
        return ConvolvedDefence(
            read.exact if exact else read,
            [k.exact if exact and k is not None else k for k in compressors],
            (Affine(code[0].weight.clone(), code[0].bias.clone(), dtype), code[0].activation),
            first.weight[:, :split].detach().clone(),
            Affine(first.weight[:, split:].detach().clone(), first.bias.detach().clone(), dtype),
            rest.form(dtype),
        )

    batch = min(part.batch for part in (read, rest.decoder, rest.classifier))
    return form(torch.float32), form(product_dtype(images.device)), batch


@torch.no_grad()
def _compressors(maps: Compressor, read: Reading, images: Images) -> list[Network | None] | None:
    """The forms of k_i; None where what is read are not the maps that they take, or one of them has none."""
    outputs = read.exact(images[:1].contiguous(memory_format=torch.channels_last))
    shapes = [tuple(a.shape[1:]) if isinstance(a, Tensor) else () for a in outputs]
    if shapes != list(maps.shapes):
        return None
    chains = [cast(nn.Sequential, k) for k in maps.layers]
    made = [network(k, a) if len(k) else None for k, a in zip(chains, outputs, strict=True)]
    return made if all(form is not None or not len(k) for form, k in zip(made, chains, strict=True)) else None
