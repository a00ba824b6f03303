"""The purifier that corrects: a conditional VAE whose code keeps the image, and whose candidates have viewpoints.

    c = [y, m],   x_hat = D(z, c) = sigmoid(logit(y) + E(m + W_z z)),   candidate = V_z x_hat

y is x, or x of more contrast, in which black and white have withstood what an attacker added (`carso.nn.contrast`).
q, the ELBO and its training are those of `carso.purifier`; reconstructions are seen straight on, candidates from the
viewpoint of their latent. It is meant for classifiers of photographs, which need more of an image than a narrow code
holds, and, with contrast, of ink on paper. What an attacker added beyond that is let through unless E takes it away.

Source: ours; of the networks, `carso.nn.correction`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from carso.errors import ModelError
from carso.nn.correction import AXES, Corrector, Reader, viewed
from carso.purifier import ConvolutionalPurifier, Moments
from carso.types import Codes, Images

WIDEST = 6.0
"""Bound of q's log-variance either way, in nats; e to the power of much more overflows."""


class CorrectivePurifier(ConvolutionalPurifier):
    """The conditional VAE of photographs.

    Args:
        shape: (C, H, W) of the images.
        shapes: of the layers that make the representation, without the batch, in order; the image must be one.
        latent: dimension of z, at least 3.
        width: channels of R's grid.
        channels: of m, what R adds to the image.
        blocks: residual blocks on each grid of R.
        shift: pixels of a viewpoint, up or down and left or right; 0 for none.
        flip: whether a viewpoint may exchange left and right.
        contrast: the change of a pixel that black and white withstand; 0 for none.

    Raises:
        ModelError: if no layer is the image, or z is too small for a viewpoint.
    """

    LATENT = 32

    def __init__(
        self,
        shape: Sequence[int],
        shapes: Sequence[Sequence[int]],
        latent: int = LATENT,
        width: int = 48,
        channels: int = 16,
        blocks: int = 2,
        shift: int = 0,
        flip: bool = False,
        contrast: float = 0.0,
    ) -> None:
        self._begin(shape, shapes, latent)
        if self.shape not in [tuple(each) for each in shapes]:
            raise ModelError("a purifier that corrects needs the image: name input among the layers")
        if latent < AXES:
            raise ModelError(f"a viewpoint takes {AXES} latents, and z has {latent}")
        self.options = {"shapes": [list(s) for s in shapes], "width": width, "channels": channels, "blocks": blocks}
        self.options |= {"shift": shift, "flip": flip, "contrast": contrast}
        reader = Reader(shapes, self.shape, width, channels, blocks, contrast)
        self.maps, self.features = reader, reader.features
        self.representation_encoder = nn.Sequential()
        self._add_posterior()
        self.decoder = nn.Sequential(Corrector(latent, self.shape, channels, width), nn.Sigmoid())

    @property
    def code(self) -> int:
        """Dimension of c."""
        return self.features

    def encode(self, images: Images, codes: Codes) -> tuple[Moments, Moments]:
        """As `Purifier.encode`, the log-variance within `WIDEST` of 0: a wide code can throw it far out in a step."""
        mean, log_variance = super().encode(images, codes)
        return mean, WIDEST * torch.tanh(log_variance / WIDEST)

    def decode(self, latents: Moments, codes: Codes) -> Images:
        """V_z D(z, c): one latent (B, latent) per code (B, code) to images (B, C, H, W) in (0, 1)."""
        return viewed(self.reconstructed(latents, codes), latents, self.options["shift"], self.options["flip"])

    def reconstructed(self, latents: Moments, codes: Codes) -> Images:
        """D(z, c), seen straight on, of latents (B, latent) and codes (B, code): images (B, C, H, W) in (0, 1)."""
        return super().decode(latents, codes)

    def target(self, clean: Images) -> Images:
        """y of clean images: what has been taken away by contrast is not to be learned again."""
        assert isinstance(self.maps, Reader)
        contrasted: Images = self.maps.contrast(clean)
        return contrasted
