"""Interventions: a trained defence, of which one thing is changed at inference.

    c of x  ->  a row of C, held-out images' codes         another: (sum of x's grey levels) mod (rows of C) says which
            ->  a row of C, each of whose columns is        noise: components independent of each other and of x
                permuted by itself
    z       ->  0                                          all candidates of an image are one
    K, aggregation                                         the defence's own fields

Which row replaces the code of x depends on x alone, not on the images beside it. The gradient through a replaced code
is zero, as it should be: nothing of the image is left in what the defence recalls.
"""

from __future__ import annotations

from copy import copy

import torch
from torch import Tensor

from carso.ablations.study import Intervention
from carso.data import Dataset
from carso.defence import CARSO
from carso.types import Codes, Images, Latents

DONORS = 1000
"""Held-out images whose codes replace others, at most."""


class Ablated(CARSO):
    """A defence with other codes, or with no latents.

    Args:
        defence: whose parts it shares.
        replacement: C (rows, code), whose rows replace the codes; None to keep these.
        without_latents: whether z is 0.

    Attributes:
        replacement: C.
    """

    replacement: Tensor | None

    def __init__(self, defence: CARSO, replacement: Codes | None = None, without_latents: bool = False) -> None:
        super().__init__(defence.classifier, defence.purifier, defence.representation.layers, **defence.voting)
        self._take_after(defence)
        self.without_latents = without_latents
        self.register_buffer("replacement", replacement)

    def extra_repr(self) -> str:
        """What is changed, and which latents, if they are not fresh."""
        replaced = "" if self.replacement is None else f"code replaced by one of {len(self.replacement)}"
        return ", ".join(filter(None, (replaced, "z = 0" if self.without_latents else "", super().extra_repr())))

    def codes(self, images: Images) -> Codes:
        """The replaced codes (B, code) of images (B, C, H, W), connected to them by a gradient of zero."""
        own = super().codes(images)
        return own if self.replacement is None else 0 * own + self.replacement[self.donors(images)]

    def donors(self, images: Images) -> Tensor:
        """Which row of C replaces the code of each image (B,)."""
        levels = (255 * images.detach()).round().long().flatten(1).sum(1)
        return levels % (1 if self.replacement is None else len(self.replacement))

    def latents(self, samples: int | None = None, generator: torch.Generator | None = None) -> Latents:
        """z (K, latent)."""
        drawn = super().latents(samples, generator)
        return drawn.zero_() if self.without_latents else drawn


def intervened(defence: CARSO, intervention: Intervention, held_out: Dataset, seed: int) -> CARSO:
    """The defence after an intervention; it shares classifier and purifier with the one before.

    Args:
        defence: trained, and left as it is.
        intervention: what is changed.
        held_out: images whose codes replace others.
        seed: of the permutations.
    """
    replacement = None if intervention.code is None else _replacement(defence, intervention.code, held_out, seed)
    ablated = intervention.latent is not None or replacement is not None
    twin = Ablated(defence, replacement, intervention.latent is not None) if ablated else copy(defence)
    twin.samples = intervention.samples or defence.samples
    twin.aggregation = intervention.aggregation or defence.aggregation
    return twin


def _replacement(defence: CARSO, code: str, held_out: Dataset, seed: int) -> Codes:
    with torch.no_grad():
        codes = defence.codes(held_out[:DONORS].images)
    if code == "another":
        return codes
    order = torch.rand(codes.shape, generator=torch.Generator().manual_seed(seed)).argsort(0)
    return codes.gather(0, order)
