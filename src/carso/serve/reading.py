"""The images of a request: one picture, or several as JSON.

image/png, image/jpeg    a picture of any size
application/json         {"images": [...]}, each one nested lists [C][H][W] (or [H][W] if grey) of numbers in [0, 1],
                         or a PNG or JPEG in base64
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carso.serve.answering import Shape
from carso.web.body import picture
from carso.web.refusal import RefusedError

PICTURES = ("image/png", "image/jpeg", "image/jpg")
JSON = "application/json"


def kind_of(header: str | None) -> str:
    """The content type that a header names.

    Raises:
        RefusedError: with status 415 if it is none that is read.
    """
    kind = (header or "").partition(";")[0].strip().lower()
    if kind not in (*PICTURES, JSON):
        raise RefusedError(415, f"send image/png, image/jpeg or {JSON} as Content-Type, not {kind[:80] or 'nothing'!r}")
    return kind


def images_of(body: bytes, kind: str, shape: Shape, most: int, digits: bool = True) -> Iterator[Tensor]:
    """The images (C, H, W) in [0, 1] that a body holds, each picture decoded when it is asked for.

    Nested lists become images together, with the first: as lists they take many times the memory.

    Args:
        body: as it came.
        kind: as `kind_of` says.
        shape: (C, H, W) of the images.
        most: images in a request.
        digits: whether those of MNIST's shape are digits.

    Raises:
        RefusedError: with status 400, naming what is wrong, or with status 413 if there are too many.
    """
    if kind != JSON:
        yield picture(body, shape, digits)
        return
    for place, entry in enumerate(_entries(body, shape, most)):
        yield _picture(entry, f"image {place}", shape, digits) if isinstance(entry, str) else entry


def _entries(body: bytes, shape: Shape, most: int) -> list[Tensor | str]:
    """The images that are lists, and the others in base64."""
    _check_amount(body, shape, most)
    listed = _listed(body)
    if len(listed) > most:
        raise RefusedError(413, f"{len(listed)} images are more than the {most} of one request; send several")
    places = enumerate(listed)
    return [entry if isinstance(entry, str) else _image(entry, f"image {place}", shape) for place, entry in places]


def _check_amount(body: bytes, shape: Shape, most: int) -> None:
    """Refuse, before it is parsed, what has more lists and values than images of a request.

    An image of C H W numbers has that many commas, the one behind it counted, and 1 + C + C H brackets.
    """
    signs = sum(body.count(sign) for sign in (b",", b"[", b"{"))
    if signs > 4 * most * math.prod(shape) + 2:
        raise RefusedError(413, f"the body has more lists and values than {most} images {shape} have; send several")


def _listed(body: bytes) -> list[Any]:
    try:
        asked = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RefusedError(400, "the body is not JSON") from error
    listed = asked.get("images") if isinstance(asked, dict) and len(asked) == 1 else None
    if not isinstance(listed, list) or not listed:
        raise RefusedError(400, 'the body must be {"images": [...]}, with one image at least and nothing else')
    return listed


def _image(entry: Any, name: str, shape: Shape) -> Tensor:
    try:
        if (given := np.asarray(entry)).dtype.kind in "bU":
            raise ValueError("truth values or text")
        values = given.astype(np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise RefusedError(400, f"{name}: neither nested lists of numbers nor base64") from error
    if values.shape not in (shape, shape[1:] if shape[0] == 1 else shape):
        raise RefusedError(400, f"{name}: has the shape {values.shape}, but the defence takes {shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise RefusedError(400, f"{name}: values must be in [0, 1]")
    return torch.from_numpy(values.astype(np.float32)).view(shape)


def _picture(text: str, name: str, shape: Shape, digits: bool) -> Tensor:
    try:
        return picture(base64.b64decode(text, validate=True), shape, digits)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, f"{name}: not a picture in base64") from error
    except RefusedError as error:
        raise RefusedError(error.status, f"{name}: {error}") from error
