"""The bodies of requests, within bounds: the length of each and of all, their time, and what a picture decodes to."""

from __future__ import annotations

import asyncio
import math

from PIL import Image
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from torch import Tensor

from carso.data.image import open_image, prepare
from carso.errors import DataError
from carso.web.refusal import FullError, RefusedError

UPLOAD = 8 * 2**20
"""Bytes of a picture, at most."""

SIDE = 1024
"""Pixels along the longer side to which a picture is shrunk before anything is computed of it."""

ROOM = 256 * 2**20
"""Bytes of the bodies of all requests that are in, at most."""

PATIENCE = 30.0
"""Seconds in which the whole body of a request must have come."""


class Room:
    """An application the bodies of whose requests have at most `ROOM` bytes together, each until it is answered.

    Args:
        app: what is asked.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app, self.held = app, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; whoever reads its body when there is no room gets a FullError."""
        held = 0

        async def counted() -> Message:
            nonlocal held
            message = await receive()
            came = len(message.get("body", b""))
            held, self.held = held + came, self.held + came
            if self.held > ROOM:
                raise FullError(math.ceil(PATIENCE), "large requests")
            return message

        try:
            await self.app(scope, counted, send)
        finally:
            self.held -= held


async def bounded(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        RefusedError: with status 413 once it is longer than `most` bytes, with 408 if it does not come in time.
    """
    try:
        async with asyncio.timeout(PATIENCE):
            return await _body(request, most)
    except TimeoutError as error:
        raise RefusedError(408, f"the request did not arrive within {PATIENCE:g} s") from error


async def _body(request: Request, most: int) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise RefusedError(413, f"what was sent is larger than {_size(most)}; scale it down")
    return bytes(body)


def _size(length: int) -> str:
    return f"{length // 2**20} MB" if length >= 2**20 else f"{length // 2**10} kB"


def picture(body: bytes, shape: tuple[int, int, int], digit: bool = True) -> Tensor:
    """The image (C, H, W) of an uploaded PNG or JPEG, refused by its header if it is too large to be decoded.

    Args:
        body: as it came.
        shape: (C, H, W).
        digit: see `carso.data.read_image`.

    Raises:
        RefusedError: with status 400, naming what is wrong with the picture.
    """
    try:
        side = max(SIDE, *shape[1:])
        return prepare(_shrunk(open_image(body, enough=2 * side), side), shape, digit)
    except DataError as error:
        raise RefusedError(400, f"the picture {error}") from error
    except ValueError as error:
        raise RefusedError(400, str(error)) from error


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    """The picture with no side longer than `side`.

    Pillow cannot reduce pictures of 16 bits, only resize them, and leaves out pixels of those of one bit or a palette.
    """
    if image.mode in ("1", "P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "L" if image.mode == "1" else "RGB")
    image.thumbnail((side, side), reducing_gap=None if image.mode.startswith("I;") else 2.0)
    return image
