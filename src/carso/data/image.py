"""One picture of whatever size and mode, as an image that a model takes."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile
from torch import Tensor

from carso.data import digits
from carso.data.reading import decoding, naming
from carso.data.tags import check_tags
from carso.errors import DataError

MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded."""

WORKING_PIXELS = 16_000_000
"""Larger ones are averaged over squares before they become floats."""

FORMATS = {"PNG": "PNG", "JPEG": "JPEG", "WEBP": "WebP", "BMP": "BMP", "TIFF": "TIFF"}
"""The formats that are read from files: Pillow's names and everybody's."""

UPLOADS = ("PNG", "JPEG")
"""Those that are read from strangers."""

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "I;16", "I;16B")


def read_image(path: str | Path, shape: tuple[int, int, int], digit: bool = True) -> Tensor:
    """Read a picture as one image for a model.

    Where `shape` is MNIST's (1, 28, 28) the picture is taken for one of a digit and prepared by `carso.data.digits`,
    unless it is said to show something else; elsewhere it is cut about its centre to the aspect that the model takes,
    then resized.

    Args:
        path: a PNG, JPEG, WebP, BMP or TIFF of any size: grey, colour, palette, 16 bits, transparent, turned by EXIF.
        shape: channels (1 or 3), height and width of the model's images.
        digit: whether an image of MNIST's shape is one of a digit.

    Returns:
        The image, float32 (C, H, W) in [0, 1].

    Raises:
        DataError: if the file is missing, damaged, animated, too large, no picture, or shows no digit; names the file.
        ValueError: if the model takes neither 1 nor 3 channels.
    """
    with naming(path):
        return prepare(open_image(path, tuple(FORMATS)), shape, digit)


def prepare(image: Image.Image, shape: tuple[int, int, int], digit: bool = True) -> Tensor:
    """What `read_image` does, for a picture that `open_image` decoded or that was drawn."""
    channels, height, width = shape
    if digit and (channels, height, width) == digits.SHAPE:
        grey = flatten(image, _contrast(image)).convert("L")
        return torch.from_numpy(digits.normalise(_unit(_shrunk(grey))))[None]
    pixels = _unit(fitted(flatten(image), channels, (height, width)))
    return torch.from_numpy(pixels).reshape(height, width, channels).permute(2, 0, 1).contiguous()


def fitted(image: Image.Image, channels: int, size: tuple[int, int]) -> Image.Image:
    """A picture from `flatten`, grey or in colour, cut about its centre to the aspect of (height, width) and resized.

    Raises:
        ValueError: if the channels are neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise ValueError(f"pictures have 1 or 3 channels, but the model takes {channels}")
    converted = _converted(image, "L" if channels == 1 else "RGB")
    height, width = size
    return converted if converted.size == (width, height) else ImageOps.fit(converted, (width, height))


def open_image(
    source: str | Path | bytes, formats: tuple[str, ...] = UPLOADS, enough: int | None = None
) -> Image.Image:
    """Decode a picture, a file or its bytes, and turn it upright.

    Args:
        source: the path, or the bytes.
        formats: the keys of `FORMATS` that are let through.
        enough: pixels along the shorter side that suffice: a JPEG with twice as many or more is decoded at a half, a
            quarter or an eighth of its size, which takes less time and memory; None decodes all pixels.

    Raises:
        DataError: if it is missing, damaged, animated, too large or in another format.
    """
    with decoding():
        with _opened(source, formats) as image:
            _check_header(image)
            image.verify()
        with _opened(source, formats) as image:
            if enough is not None:
                image.draft(None, (enough, enough))
            _check_exif(image)
            ImageOps.exif_transpose(image, in_place=True)
            return image


def flatten(image: Image.Image, behind: str = "white") -> Image.Image:
    """The picture without transparency, palette or 16 bits: mode L if it is grey, else RGB."""
    image = _shallow(image)
    mode = "L" if image.mode in ("1", "L", "LA") else "RGB"
    if not image.has_transparency_data:
        return _converted(image, mode)
    paper = Image.new("RGBA", image.size, behind)
    return Image.alpha_composite(paper, _converted(image, "RGBA")).convert(mode)


def _opened(source: str | Path | bytes, formats: tuple[str, ...]) -> Image.Image:
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats)
    except UnidentifiedImageError:
        *others, last = (FORMATS[name] for name in formats)
        known = f"{', '.join(others)} or {last}"
        raise DataError(f"is not a {known} picture, or is damaged; convert it to PNG") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(f"holds more than {MAX_PIXELS:,} pixels; scale it down") from None
    except FileNotFoundError:
        raise DataError("there is no such file") from None
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})") from error


def _check_header(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"holds more than {MAX_PIXELS:,} pixels; scale it down")
    if image.format != "MPO" and getattr(image, "is_animated", False):
        raise DataError("is animated or has several pages; save one of them")
    if isinstance(image, TiffImageFile) and image.fp is not None:
        check_tags(image.fp, image.tag_v2)
    if not (_is_plain(image) if isinstance(image, TiffImageFile) else image.mode in (*_MODES, "I")):
        raise DataError(f"holds pixels of a kind that is not read ({image.mode}); convert it to PNG")


def _check_exif(image: Image.Image) -> None:
    read = image.getexif()
    if block := re.sub(rb"^(Exif\0\0)+", b"", image.info.get("exif", b"")):
        check_tags(io.BytesIO(block), read)


def _is_plain(image: TiffImageFile) -> bool:
    """Whether the levels mean what they say: Pillow takes 12 bits for 16, and white for black, in grey ones."""
    deep = image.tag_v2.get(BITSPERSAMPLE), image.tag_v2.get(PHOTOMETRIC_INTERPRETATION)
    return image.mode in _MODES and (deep == ((16,), 1) or not image.mode.startswith("I"))


def _shallow(image: Image.Image) -> Image.Image:
    """A picture of 16 bits in 8: grey, or grey and opacity where it names a level that is transparent."""
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image).clip(0, 65535).astype(np.uint32)
    grey = Image.fromarray(((levels + 128) // 257).astype(np.uint8))
    if "transparency" not in image.info:
        return grey
    opacity = np.where(levels == image.info["transparency"], 0, 255).astype(np.uint8)
    return Image.merge("LA", (grey, Image.fromarray(opacity)))


def _converted(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _shrunk(image: Image.Image) -> Image.Image:
    factor = math.ceil(math.sqrt(image.width * image.height / WORKING_PIXELS))
    return image.reduce(factor) if factor > 1 else image


def _contrast(image: Image.Image) -> str:
    """Black or white, whichever is farther from what can be seen of a transparent picture."""
    image = _shallow(image)
    if not image.has_transparency_data:
        return "white"
    values, opacity = (_unit(band) for band in _shrunk(_converted(image, "RGBA")).convert("LA").split())
    visible = opacity.sum()
    return "black" if visible > 0 and (values * opacity).sum() / visible > 0.5 else "white"


def _unit(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image, np.float32) / np.float32(255)
