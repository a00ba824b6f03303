"""The purifier: a conditional variational autoencoder of clean images given the classifier's representation.

    c = R(r)                      representation pre-encoder: r(x) -> code, by convolutions first where r has maps
    q(z | x, c) = N(mu, sigma^2)  encoder: [I(x), c] -> mean and log-variance, I being the image pre-encoder
    x_hat = D(z, c)               decoder: [z, c] -> a clean image
    ELBO = -BCE(x_hat, x_clean) - KL(q(z | x, c) || N(0, I))

x is clean or attacked, x_clean always clean, BCE summed over pixels, in whose place may stand |x_hat - x_clean|^2. At
inference I and q are dropped and z ~ N(0, I).

Sources: thesis, sections 3.2.3 and 3.3; Kingma and Welling, Auto-encoding variational Bayes, 2014; Sohn, Lee and Yan,
Learning structured output representation using deep conditional generative models, 2015.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from carso.nn import convolutional
from carso.nn.maps import Maps
from carso.nn.perceptron import perceptron
from carso.processes.dealing import drawn
from carso.types import Codes, Images, Representations

Moments = Float[Tensor, "batch latent"]
Sizing = Literal["published", "interpolated", "uncompressed"]

READ, MAPPED = 2**14, 2**17
"""Numbers per image of a proposed representation, at most: that of a dense purifier, whose first weights are a multiple
of them, and that of a convolutional one, which compresses maps by convolutions."""


@dataclass(frozen=True)
class Widths:
    """Neurons of every layer of the purifier after its input; the last of the first two are the compressed sizes.

    No layers for the image, or for the representation, hand it on as it is.
    """

    image: tuple[int, ...]
    representation: tuple[int, ...]
    encoder: tuple[int, ...]
    decoder: tuple[int, ...]

    @classmethod
    def published(cls, pixels: int, neurons: int, latent: int, representation: Sequence[int] = ()) -> Widths:
        """The sizes of the published experiment code, scaled to other images and classifiers.

        For 784 pixels, 290 neurons and 36 latents: 784-490-196, 290-174-58, 254-199-145, 94-1244-1014-784.
        Compressed sizes are capped at 512 (image) and 256 (code), which keeps convolutional representations affordable.
        Sizes given for the representation take the place of its own.
        """
        image, code = _compressed(pixels, neurons, representation)
        wide = round(pixels * 1244 / 784)
        return cls(
            image=(min((pixels + image) // 2, 1024), image),
            representation=tuple(representation) or (min((neurons + code) // 2, 1024), code),
            encoder=_heads(image + code, latent),
            decoder=(wide, (wide + pixels) // 2),
        )

    @classmethod
    def interpolated(
        cls, pixels: int, neurons: int, latent: int, representation: Sequence[int] = (), hidden: int = 2
    ) -> Widths:
        """The sizes of the thesis's text: hidden layers spaced evenly between input and output, two in each network.

        Sizes given for the representation take the place of its own.
        """
        image, code = _compressed(pixels, neurons, representation)
        return cls(
            image=(*_between(pixels, image, hidden), image),
            representation=tuple(representation) or (*_between(neurons, code, hidden), code),
            encoder=_heads(image + code, latent),
            decoder=_between(latent + code, pixels, hidden),
        )

    @classmethod
    def uncompressed(cls, pixels: int, neurons: int, latent: int, representation: Sequence[int] = ()) -> Widths:
        """Those of the published code without its pre-encoders: the image is read as it is, and c is r(x) itself.

        Raises:
            ValueError: if sizes are given for the representation, which has no layers.
        """
        if representation:
            raise ValueError("an uncompressed representation has no layers to give sizes for")
        decoder = cls.published(pixels, neurons, latent).decoder
        return cls(image=(), representation=(), encoder=_heads(pixels + neurons, latent), decoder=decoder)


def _compressed(pixels: int, neurons: int, representation: Sequence[int]) -> tuple[int, int]:
    """Neurons of the compressed image, and of the code: the last of those given for the representation, if any are."""
    code = representation[-1] if representation else max(1, min(neurons // 5, 256))
    return max(1, min(pixels // 4, 512)), code


def _heads(joint: int, latent: int) -> tuple[int, int]:
    """The encoder's layers: the last half way from [I(x), c] to the latents, the first half way to the last."""
    heads = (joint + latent) // 2
    return (joint + heads) // 2, heads


def _between(start: int, end: int, count: int) -> tuple[int, ...]:
    return tuple(round(start + i * (end - start) / (count + 1)) for i in range(1, count + 1))


class Purifier(nn.Module):
    """The conditional VAE.

    Args:
        shape: (C, H, W) of the images.
        neurons: length of the representation.
        latent: dimension of z.
        widths: layer sizes, or the name of a rule for them.
        representation: the sizes of R's layers, the code's last, in place of the rule's.
        maps: convolutions with which R begins; none if the representation is all flat.

    Raises:
        ValueError: if there is no such rule, or `representation` is given beside sizes for all layers.
    """

    LATENT = 36
    """Dimension of z, if none is given."""

    def __init__(
        self,
        shape: Sequence[int],
        neurons: int,
        latent: int = LATENT,
        widths: Widths | Sizing = "published",
        representation: Sequence[int] = (),
        maps: Maps | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(widths, Widths) and widths not in get_args(Sizing):
            raise ValueError(f"widths must be Widths, or one of {', '.join(get_args(Sizing))}, not {widths!r}")
        if representation and isinstance(widths, Widths):
            raise ValueError("`widths` has sizes for the representation already; leave out `representation`")
        channels, height, width = shape
        self.shape = (channels, height, width)
        self.neurons = neurons
        self.latent = latent
        pixels = math.prod(shape)
        features = neurons if maps is None else maps.features
        sizes = (pixels, features, latent, representation)
        self.widths: Widths = getattr(Widths, widths)(*sizes) if isinstance(widths, str) else widths
        self.features = features
        image, code = (pixels, *self.widths.image)[-1], self.code
        self.image_encoder = _pre_encoder(pixels, self.widths.image)
        self.maps: nn.Module = maps or nn.Identity()
        self.representation_encoder = _pre_encoder(features, self.widths.representation)
        self.encoder = perceptron((image + code, *self.widths.encoder), nn.Tanh())
        self.mean = nn.Linear(self.widths.encoder[-1], latent)
        self.log_variance = nn.Linear(self.widths.encoder[-1], latent)
        self.decoder = perceptron((latent + code, *self.widths.decoder, pixels), nn.Sigmoid(), bare_last_hidden=True)

    @staticmethod
    def bound(shape: Sequence[int]) -> int:
        """Numbers per image (C, H, W) that a representation has at most where nobody names its layers."""
        return READ

    @property
    def code(self) -> int:
        """Dimension of c."""
        return (self.features, *self.widths.representation)[-1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and so of all arithmetic within; what goes in and out keeps its own."""
        return self.mean.weight.dtype

    def compress(self, representations: Representations) -> Codes:
        """R: representations (B, neurons) to codes (B, code), in (0, 1) where they are compressed."""
        codes: Tensor = self.representation_encoder(self.maps(representations.to(self.dtype)))
        return codes.to(representations.dtype)

    def encode(self, images: Images, codes: Codes) -> tuple[Moments, Moments]:
        """Mean and log-variance, each (B, latent), of q(z | x, c) for images (B, C, H, W), clean or attacked."""
        pixels, given = images.flatten(1).to(self.dtype), codes.to(self.dtype)
        hidden = self.encoder(torch.cat([self.image_encoder(pixels), given], dim=1))
        return self.mean(hidden).to(codes.dtype), self.log_variance(hidden).to(codes.dtype)

    def decode(self, latents: Moments, codes: Codes) -> Images:
        """D: one latent (B, latent) per code (B, code) to images (B, C, H, W) in (0, 1)."""
        *hidden, sigmoid = self.decoder
        pixels = torch.cat([latents, codes], dim=1).to(self.dtype)
        for layer in hidden:
            pixels = layer(pixels)
        images: Tensor = sigmoid(pixels.to(latents.dtype))
        return images.reshape(-1, *self.shape)

    def reconstructed(self, latents: Moments, codes: Codes) -> Images:
        """What D makes in training of latents of q, one (B, latent) per code (B, code): as `decode`."""
        return self.decode(latents, codes)

    def target(self, clean: Images) -> Images:
        """What a reconstruction is held to, of clean images (B, C, H, W): the images."""
        return clean

    def forward(
        self, images: Images, representations: Representations, generator: torch.Generator | None = None
    ) -> tuple[Images, Moments, Moments]:
        """`reconstruct` from representations (B, neurons)."""
        return self.reconstruct(images, self.compress(representations), generator)

    def reconstruct(
        self, images: Images, codes: Codes, generator: torch.Generator | None = None
    ) -> tuple[Images, Moments, Moments]:
        """Reconstructions (B, C, H, W) from one latent of q each, with its mean and log-variance (B, latent)."""
        mean, log_variance = self.encode(images, codes)
        like: Any = {"generator": generator, "device": mean.device, "dtype": mean.dtype}
        noise = drawn(lambda rows: torch.randn(rows, self.latent, **like), len(mean))
        return self.reconstructed(mean + noise * (log_variance / 2).exp(), codes), mean, log_variance


def _pre_encoder(inputs: int, sizes: Sequence[int]) -> nn.Sequential:
    return perceptron((inputs, *sizes), nn.Sigmoid()) if sizes else nn.Sequential()


class ConvolutionalPurifier(Purifier):
    """The conditional VAE of colour images, whose networks are convolutional; code and latents as the dense one's.

    Args:
        shape: (C, H, W) of the images.
        shapes: of the layers that make the representation, without the batch, in order.
        latent: dimension of z.
        code: dimension of c.
        compression: how layers are compressed, "published" or "bounded" (see `carso.nn.convolutional`).
        maps: channels of the residual groups that read the image where it is a layer; none to compress it too.
    """

    LATENT = 128

    def __init__(
        self,
        shape: Sequence[int],
        shapes: Sequence[Sequence[int]],
        latent: int = LATENT,
        code: int = 512,
        compression: convolutional.Compression = "published",
        maps: Sequence[int] = (),
    ) -> None:
        self._begin(shape, shapes, latent)
        self.options: dict[str, Any] = {"shapes": [list(s) for s in shapes], "code": code, "compression": compression}
        self.options |= {"maps": list(maps)} if maps else {}
        image = (self.shape, maps) if maps else None
        self.maps = compressor = convolutional.Compressor(shapes, compression, min(shape[1:]), image)
        self.features = compressor.features
        self.representation_encoder = convolutional.linear_block(self.features, code)
        self._add_posterior()
        self.decoder = convolutional.decoder(latent + code, shape)

    def _begin(self, shape: Sequence[int], shapes: Sequence[Sequence[int]], latent: int) -> None:
        """The sizes, in place of the constructor of `Purifier`, which makes dense networks of them."""
        nn.Module.__init__(self)
        channels, height, width = shape
        self.shape = (channels, height, width)
        self.neurons, self.latent = sum(map(math.prod, shapes)), latent

    def _add_posterior(self) -> None:
        """I, and what makes mean and log-variance of [I(x), c]."""
        _, height, width = self.shape
        self.image_encoder = convolutional.image_compressor(self.shape)
        features = 4 * self.shape[0] * math.ceil(height / 4) * math.ceil(width / 4)
        self.encoder = convolutional.linear_block(features + self.code, self.latent)
        self.mean, self.log_variance = (nn.Linear(self.latent, self.latent) for _ in range(2))

    def extra_repr(self) -> str:
        """Its options, but for the shapes, which its layers tell."""
        return ", ".join(f"{name}={value}" for name, value in self.options.items() if name != "shapes")

    @staticmethod
    def bound(shape: Sequence[int]) -> int:
        """Of `MAPPED` numbers, or eight for each of the image."""
        return max(MAPPED, 8 * math.prod(shape))

    @property
    def code(self) -> int:
        """Dimension of c."""
        return int(self.options["code"])


def reconstruction_loss(reconstructions: Images, clean: Images) -> Float[Tensor, " batch"]:
    """Binary cross-entropy of each image, summed over its pixels, in nats; NaN where a reconstruction is."""
    lost = reconstructions.isnan()
    losses = F.binary_cross_entropy(reconstructions.masked_fill(lost, 0.5), clean, reduction="none")
    return losses.masked_fill(lost, torch.nan).flatten(1).sum(1)


def squared_error(reconstructions: Images, clean: Images) -> Float[Tensor, " batch"]:
    """Squared error of each image, summed over its pixels."""
    return (reconstructions - clean).square().flatten(1).sum(1)


RECONSTRUCTION = {"bce": reconstruction_loss, "l2": squared_error}
"""What a purifier may be trained to lower, by the names of recipes."""


def kl_divergence(mean: Moments, log_variance: Moments) -> Float[Tensor, " batch"]:
    """KL(N(mean, e^log_variance) || N(0, I)) of each image, in nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)
