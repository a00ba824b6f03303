"""What the fast forms need to know of a purifier and of a defence."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Generator, Tensor, nn

from carso.types import ByAttributes


@runtime_checkable
class Purifier(Protocol, metaclass=ByAttributes):
    """A conditional VAE whose code comes of `representation_encoder` after `maps`, and whose D is `decoder`."""

    @property
    def latent(self) -> int:
        """Dimension of z."""

    @property
    def maps(self) -> nn.Module:
        """Convolutions with which R begins, or the identity."""

    @property
    def representation_encoder(self) -> nn.Sequential:
        """The other layers of R."""

    @property
    def decoder(self) -> nn.Sequential:
        """D, of [z, c]."""

    def decode(self, latents: Tensor, codes: Tensor) -> Tensor:
        """One latent (B, latent) per code (B, code) to images (B, C, H, W)."""

    def parameters(self) -> Any:
        """All weights."""

    def modules(self) -> Any:
        """Itself and all modules within."""


@runtime_checkable
class Defence(Protocol, metaclass=ByAttributes):
    """A classifier before its purifier, trained or in training."""

    @property
    def classifier(self) -> nn.Module:
        """N."""

    @property
    def purifier(self) -> Any:
        """A `Purifier`."""

    @property
    def representation(self) -> Any:
        """r, with the names of its `layers`."""

    def logits(self, images: Tensor, *, latents: Tensor) -> Tensor:
        """N's logits (B, K, classes) on candidates of latents (K, latent), or of each image's own (B, K, latent)."""

    def latents(self, samples: int | None = None, generator: Generator | None = None) -> Tensor:
        """Fresh z (K, latent)."""
