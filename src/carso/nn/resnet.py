"""Residual networks with pre-activation, thin or wide: classifiers of colour images.

    h_0 = W_0 * standardise(x)
    h_{l+1} = h_l + W_2 * phi(BN(W_1 * phi(BN(h_l))))       a block; where the shape changes, h_l is convolved too
    z = W mean(phi(BN(h_L))) + b                            mean over the pixels

Groups of blocks double the channels and, from the second on, halve height and width. ResNet-18 is four groups of two
blocks; WRN-d-k is a stem of 16 channels and three groups of (d - 4) / 6 blocks whose first has 16 k channels.

Sources: K. He, X. Zhang, S. Ren and J. Sun, "Identity mappings in deep residual networks", ECCV 2016; S. Zagoruyko and
N. Komodakis, "Wide residual networks", BMVC 2016.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from carso.nn.standardise import Standardise

Activation = Literal["relu", "silu", "mish"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "silu": nn.SiLU, "mish": nn.Mish}


class Block(nn.Module):
    """Two convolutions behind their batch norms and non-linearities, and what passes by.

    Args:
        entering: channels that come in.
        leaving: channels that go out.
        stride: of the first convolution.
        activation: phi.
    """

    def __init__(self, entering: int, leaving: int, stride: int, activation: type[nn.Module]) -> None:
        super().__init__()
        self.norm1, self.act1 = nn.BatchNorm2d(entering), activation()
        self.conv1 = nn.Conv2d(entering, leaving, 3, stride, 1, bias=False)
        self.norm2, self.act2 = nn.BatchNorm2d(leaving), activation()
        self.conv2 = nn.Conv2d(leaving, leaving, 3, 1, 1, bias=False)
        changes = stride != 1 or entering != leaving
        self.shortcut = nn.Conv2d(entering, leaving, 1, stride, bias=False) if changes else None

    def forward(self, h: Tensor) -> Tensor:
        """(B, entering, H, W) to (B, leaving, H / stride, W / stride)."""
        a = self.act1(self.norm1(h))
        passed = h if self.shortcut is None else self.shortcut(a)
        out: Tensor = self.conv2(self.act2(self.norm2(self.conv1(a))))
        return out + passed


class ResNet(nn.Module):
    """A residual network.

    Args:
        shape: (C, H, W) of the images.
        classes: number of classes.
        width: channels of the first group.
        blocks: how many blocks each group has.
        stem: channels of the first convolution; by default `width`.
        activation: phi.
        mean: of the training images, per channel.
        std: of the training images, per channel.
    """

    def __init__(
        self,
        shape: Sequence[int] = (3, 32, 32),
        classes: int = 10,
        width: int = 32,
        blocks: Sequence[int] = (2, 2, 2, 2),
        stem: int | None = None,
        activation: Activation = "relu",
        mean: Sequence[float] = (0.4914, 0.4822, 0.4465),
        std: Sequence[float] = (0.2470, 0.2435, 0.2616),
    ) -> None:
        super().__init__()
        self.options: dict[str, Any] = {
            "shape": list(shape),
            "classes": classes,
            "width": width,
            "blocks": list(blocks),
            "stem": stem,
            "activation": activation,
            "mean": list(mean),
            "std": list(std),
        }
        phi, entering = ACTIVATIONS[activation], width if stem is None else stem
        self.standardise = Standardise(mean, std)
        self.stem = nn.Conv2d(shape[0], entering, 3, 1, 1, bias=False)
        groups = []
        for i, count in enumerate(blocks):
            groups.append(_group(entering, width * 2**i, count, 1 if i == 0 else 2, phi))
            entering = width * 2**i
        self.groups = nn.Sequential(*groups)
        self.norm, self.act = nn.BatchNorm2d(entering), phi()
        self.logits = nn.Linear(entering, classes)
        self.apply(_initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, classes) of images (B, C, H, W) in [0, 1]."""
        h = self.act(self.norm(self.groups(self.stem(self.standardise(images)))))
        logits: Tensor = self.logits(F.adaptive_avg_pool2d(h, 1).flatten(1))
        return logits


def _group(entering: int, leaving: int, count: int, stride: int, phi: type[nn.Module]) -> nn.Sequential:
    blocks = [Block(entering if i == 0 else leaving, leaving, stride if i == 0 else 1, phi) for i in range(count)]
    return nn.Sequential(*blocks)


def _initialise(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
