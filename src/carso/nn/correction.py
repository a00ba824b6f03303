"""The networks of a purifier that corrects the image it is given, rather than drawing it anew.

    h = sum over i of W_i BN(a_i)                 every layer, on one grid of half the image's height and width
    m = M(h),   c = [y, m]                        M: residual blocks on the grid and on a coarser one, then few channels
    y = x, or x of more contrast                  `carso.nn.contrast`
    D(z, c) = sigmoid(logit(y) + E(m + W_z z))    E: a residual block and a convolution, zero before training
    V_z: flips left and right, and shifts         by the signs of z_1, z_2 and z_3, each with probability 1/2

Before it is trained D gives back y, so that a defence begins where its classifier stands. Where convolutions
squeeze an image of CIFAR-10 through 512 numbers, what comes back is too blurred for the classifier. A candidate is seen
from a viewpoint of its own, V_z D(z, c), for which a classifier that was trained on flipped and cropped images has
another answer; the vote over viewpoints is right more often than any of them.

Sources: of corrections, K. Zhang, W. Zuo, Y. Chen, D. Meng and L. Zhang, "Beyond a Gaussian denoiser", IEEE TIP, 2017;
of viewpoints, J. C. Perez, M. Alfarra, G. Jeanneret, L. Rueda, A. Thabet, B. Ghanem and P. Arbelaez,
"Enhancing adversarial robustness via test-time transformation ensembling", ICCV workshops, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from carso.nn.contrast import Contrast
from carso.nn.maps import unflattened
from carso.nn.resnet import Block
from carso.types import Images, Representations

Shape = Sequence[int]

HALVED = 2
"""By how much the grid is coarser than the image."""

WITHIN = 1 / 256
"""How far from 0 and 1 an image is kept, so that its logit is finite and its gradient is there."""

AXES = 3
"""Components of z that a viewpoint takes: one for the flip and two for the shift."""


class Reader(nn.Module):
    """What the layers say, on a grid: the image as it is, and few channels of everything.

    Args:
        shapes: of the layers that make the representation, without the batch, in order; the image's among them.
        shape: (C, H, W) of the images.
        width: channels of the grid.
        channels: of m.
        blocks: residual blocks of the grid before and after the coarser one, which has as many.
        contrast: the change of a pixel that black and white withstand in y; 0 for none.
    """

    def __init__(
        self,
        shapes: Sequence[Shape],
        shape: Shape,
        width: int,
        channels: int,
        blocks: int,
        contrast: float = 0.0,
    ) -> None:
        super().__init__()
        self.shapes, self.shape = tuple(tuple(each) for each in shapes), tuple(shape)
        self.grid = _grid(shape)
        self.channels, self.contrast = channels, Contrast(contrast) if contrast else nn.Identity()
        self.layers = nn.ModuleList(_read(each, width) for each in self.shapes)
        self.before, self.after = (nn.Sequential(*_blocks(width, blocks)) for _ in range(2))
        self.down = Block(width, 2 * width, 2, nn.ReLU)
        self.coarse = nn.Sequential(*_blocks(2 * width, blocks))
        self.up = nn.Conv2d(2 * width, width, 1, bias=False)
        self.norm, self.mapped = nn.BatchNorm2d(width), nn.Conv2d(width, channels, 3, 1, 1)

    @property
    def features(self) -> int:
        """How many numbers come out per image."""
        return math.prod(self.shape) + self.channels * math.prod(self.grid)

    def forward(self, representations: Representations) -> Float[Tensor, "batch features"]:
        """(B, neurons) to [y, m] (B, features)."""
        return self.read(unflattened(representations, self.shapes))

    def read(self, outputs: Sequence[Tensor]) -> Float[Tensor, "batch features"]:
        """The layers' outputs, each (B, *shape), to [y, m] (B, features)."""
        image = outputs[self.shapes.index(self.shape)]
        h = self.before(sum(self._placed(layer, a) for layer, a in zip(self.layers, outputs, strict=True)))
        coarse: Tensor = self.up(F.relu(self.coarse(self.down(h))))
        h = self.after(h + F.interpolate(coarse, size=self.grid))
        m: Tensor = self.mapped(F.relu(self.norm(h)))
        return torch.cat([self.contrast(image).flatten(1), m.flatten(1).to(image.dtype)], dim=1)

    def _placed(self, layer: nn.Module, a: Tensor) -> Tensor:
        """A layer's part of h: averaged or repeated until it is on the grid."""
        h: Tensor = layer(a)
        if h.dim() == 2:
            return h[:, :, None, None]
        if h.shape[2] > self.grid[0] or h.shape[3] > self.grid[1]:
            return F.adaptive_avg_pool2d(h, self.grid)
        return F.interpolate(h, size=self.grid)


def _grid(shape: Shape) -> tuple[int, int]:
    _, height, width = shape
    return math.ceil(height / HALVED), math.ceil(width / HALVED)


def _read(shape: Shape, width: int) -> nn.Module:
    """Batch norm and a linear map of a layer's channels, or of a flat layer."""
    if len(shape) == 3:
        return nn.Sequential(nn.BatchNorm2d(shape[0]), nn.Conv2d(shape[0], width, 3, 1, 1, bias=False))
    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(math.prod(shape)), nn.Linear(math.prod(shape), width, bias=False))


def _blocks(width: int, count: int) -> list[nn.Module]:
    return [Block(width, width, 1, nn.ReLU) for _ in range(count)]


class Corrector(nn.Module):
    """D without its sigmoid.

    Args:
        latent: dimension of z.
        shape: (C, H, W) of the images.
        channels: of m.
        width: channels of its block.
    """

    def __init__(self, latent: int, shape: Shape, channels: int, width: int) -> None:
        super().__init__()
        self.latents = nn.Linear(latent, channels, bias=False)
        self.shape, self.grid = tuple(shape), _grid(shape)
        self.block = Block(channels, width, 1, nn.ReLU)
        self.norm = nn.BatchNorm2d(width)
        self.last = nn.Conv2d(width, shape[0] * HALVED**2, 3, 1, 1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, joint: Float[Tensor, "batch joint"]) -> Float[Tensor, "batch channels height width"]:
        """[z, y, m] (B, latent + features) to the logits of pixels (B, C, H, W)."""
        latent, pixels = self.latents.in_features, math.prod(self.shape)
        z, y, m = joint.split([latent, pixels, joint.shape[1] - latent - pixels], dim=1)
        h = m.unflatten(1, (-1, *self.grid)) + self.latents(z)[:, :, None, None]
        moved: Tensor = F.pixel_shuffle(self.last(F.relu(self.norm(self.block(h)))), HALVED)
        _, height, width = self.shape
        image = y.unflatten(1, self.shape)
        return torch.logit(WITHIN + (1 - 2 * WITHIN) * image) + moved[:, :, :height, :width].to(image.dtype)


def viewed(images: Images, latents: Float[Tensor, "batch latent"], shift: int, flip: bool) -> Images:
    """V: every image (B, C, H, W) from the viewpoint of its latent (B, latent); what comes into sight is black.

    Args:
        images: to be looked at.
        latents: z, of which the signs of the first three components count.
        shift: pixels, up or down and left or right.
        flip: whether left and right may be exchanged.
    """
    flips, falls, turns = (latents[:, axis, None, None, None] > 0 for axis in range(AXES))
    if flip:
        images = torch.where(flips, images.flip(3), images)
    if not shift:
        return images
    height, width = images.shape[2:]
    padded = F.pad(images, (shift, shift, shift, shift))
    rows = torch.where(falls, padded[:, :, :height], padded[:, :, 2 * shift :])
    return torch.where(turns, rows[:, :, :, :width], rows[:, :, :, 2 * shift :])
