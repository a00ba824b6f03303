"""One picture, PNG or JPEG of whatever size and mode, as an image that a model takes."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from carso.data import digits
from carso.errors import DataError

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded."""


def read_image(path: str | Path, shape: tuple[int, int, int]) -> Tensor:
    """Read a picture as one image for a model.

    Where `shape` is MNIST's (1, 28, 28) the picture is taken for one of a digit and prepared by `carso.data.digits`;
    elsewhere it is cut about its centre to the aspect that the model takes, then resized.

    Args:
        path: a PNG or JPEG of any size: grey, colour, palette, 16 bits, transparent, rotated by EXIF.
        shape: channels (1 or 3), height and width of the model's images.

    Returns:
        The image, float32 (C, H, W) in [0, 1].

    Raises:
        DataError: if the file is missing, damaged, animated, too large, no picture, or shows no digit; names the file.
        ValueError: if the model takes neither 1 nor 3 channels.
    """
    try:
        return prepare(open_image(path), shape)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def prepare(image: Image.Image, shape: tuple[int, int, int]) -> Tensor:
    """What `read_image` does, for a picture that `open_image` decoded or that was drawn."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels, but the model takes {channels}")
    if (channels, height, width) == digits.SHAPE:
        return torch.from_numpy(digits.normalise(_unit(flatten(image, _contrast(image)).convert("L"))))[None]
    opaque = flatten(image).convert("L" if channels == 1 else "RGB")
    fitted = opaque if opaque.size == (width, height) else ImageOps.fit(opaque, (width, height))
    return torch.from_numpy(_unit(fitted)).reshape(height, width, channels).permute(2, 0, 1).contiguous()


def open_image(source: str | Path | bytes) -> Image.Image:
    """Decode a PNG or JPEG, a file or its bytes, and turn it upright.

    Raises:
        DataError: if it is missing, damaged, animated, too large or in another format.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            opened = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=("PNG", "JPEG"))
        with opened as image:
            _check_header(image)
            return ImageOps.exif_transpose(image)
    except FileNotFoundError:
        raise DataError("there is no such file") from None
    except UnidentifiedImageError:
        raise DataError("is not a PNG or JPEG picture, or is damaged; convert it to PNG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"holds more than {MAX_PIXELS:,} pixels; scale it down") from None
    except (OSError, SyntaxError, ValueError, EOFError, MemoryError, struct.error, zlib.error) as error:
        raise DataError(f"is damaged or cannot be read ({error})") from error


def flatten(image: Image.Image, behind: str = "white") -> Image.Image:
    """The picture without transparency, palette or 16 bits: mode L if it is grey, else RGB."""
    if image.mode.startswith("I"):
        levels = np.asarray(image).clip(0, 65535)
        return Image.fromarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8))
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if not image.has_transparency_data:
        return image.convert(mode)
    paper = Image.new("RGBA", image.size, behind)
    return Image.alpha_composite(paper, image.convert("RGBA")).convert(mode)


def _contrast(image: Image.Image) -> str:
    """Black or white, whichever is farther from what can be seen of a transparent picture."""
    if image.mode.startswith("I") or not image.has_transparency_data:
        return "white"
    values, opacity = (_unit(band) for band in image.convert("RGBA").convert("LA").split())
    visible = opacity.sum()
    return "black" if visible > 0 and (values * opacity).sum() / visible > 0.5 else "white"


def _unit(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image, np.float32) / np.float32(255)


def _check_header(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"holds more than {MAX_PIXELS:,} pixels; scale it down")
    if image.format == "PNG" and getattr(image, "is_animated", False):
        raise DataError("is animated; save one of its frames")
