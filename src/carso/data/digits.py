"""A picture of one digit, made into what MNIST is made of.

MNIST's digits are light on black, scaled to fit a box of 20 x 20 without changing their aspect, and moved by whole
pixels until their centre of mass lies in the middle of 28 x 28. What stands out from the background is ink:

    ink = max(0, g - opening(g) - noise) / its maximum,

where g is the grey picture with light ink, its opening (Serra 1982) is the background with all strokes removed, uneven
light included, and noise is what still stands out along the edge of the picture.

LeCun, Cortes, Burges: The MNIST database of handwritten digits (1998).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from carso.errors import DataError

SHAPE = (1, 28, 28)

NAMES = tuple("0123456789")
"""What its classes are called."""

_SIDE, _BOX = SHAPE[1], 20
_WORKING_SIDE, _BACKGROUND_SIDE = 280, 70
_FAINTEST, _STROKE = 0.1, 0.3


def meant(shape: Sequence[int], names: Sequence[str], data: str | None = None) -> bool:
    """Whether a model is one of MNIST's digits, for which a picture is to be made into what MNIST is made of.

    Args:
        shape: (C, H, W) of its images.
        names: of its classes.
        data: the data set that it was trained on; None if unknown.
    """
    return tuple(shape) == SHAPE and tuple(names) == NAMES and data in (None, "mnist")


def normalise(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Crop a digit to its ink, scale it into the box and centre it.

    A picture of 28 x 28 is in MNIST's frame already: it passes unchanged, or inverted where its background is light.

    Args:
        grey: (H, W) in [0, 1], dark on light or light on dark.

    Returns:
        (28, 28) in [0, 1], light on black.

    Raises:
        DataError: if nothing stands out from the background.
    """
    light_ink = 1 - grey if is_light(grey) else grey
    if grey.shape == (_SIDE, _SIDE):
        return light_ink
    return centre(fit(crop(ink(_shrink(light_ink, _WORKING_SIDE)))))


def is_light(grey: NDArray[np.float32]) -> bool:
    """Whether the background, the median along the edge, is lighter than what stands out from it most."""
    background = np.median(_edge(grey))
    return bool(background - grey.min() > grey.max() - background)


def ink(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each pixel of light ink stands out from its background, (H, W): 0 is paper, 1 the strongest stroke."""
    strength = grey - _background(grey)
    strength = strength - np.quantile(_edge(strength), 0.9)
    strongest = strength.max()
    if strongest < _FAINTEST:
        raise DataError("shows no digit: nothing stands out from the background")
    return np.asarray(np.clip(strength / strongest, 0, 1), np.float32)


def crop(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """The smallest box that holds all strokes."""
    rows, columns = (np.flatnonzero((ink > _STROKE).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def fit(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale until the longer side is 20 pixels and the strongest stroke is 1."""
    scaled = _resize(ink, _BOX / max(ink.shape))
    return np.asarray(scaled / scaled.max(), np.float32)


def centre(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """Place ink of at most 28 x 28 in 28 x 28, its centre of mass as near to the middle as whole pixels allow."""
    image = np.zeros((_SIDE, _SIDE), np.float32)
    top, left = (_offset(ink.sum(axis)) for axis in (1, 0))
    image[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return image


def _offset(profile: NDArray[np.float32]) -> int:
    middle = np.average(np.arange(len(profile)), weights=profile)
    return int(np.clip(np.round(_SIDE / 2 - middle), 0, _SIDE - len(profile)))


def _background(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    small = Image.fromarray(_shrink(grey, _BACKGROUND_SIDE))
    widest_stroke = 2 * max(1, max(small.size) // 6) + 1
    opened = small.filter(ImageFilter.MinFilter(widest_stroke)).filter(ImageFilter.MaxFilter(widest_stroke))
    height, width = grey.shape
    return np.asarray(opened.resize((width, height), Image.Resampling.BILINEAR))


def _edge(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _shrink(grey: NDArray[np.float32], longest: int) -> NDArray[np.float32]:
    return grey if max(grey.shape) <= longest else _resize(grey, longest / max(grey.shape))


def _resize(grey: NDArray[np.float32], scale: float) -> NDArray[np.float32]:
    height, width = (max(1, round(side * scale)) for side in grey.shape)
    resample = Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(grey).resize((width, height), resample))
