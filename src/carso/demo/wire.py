"""What travels between the page and the studio: requests as JSON, images without rounding.

Images travel as base64 of float32, (C, H, W), so that nothing is rounded between an attack and the answers to it.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from torch import Tensor

from carso.demo.studio import Aim, Round, Studio
from carso.types import Images, Norm
from carso.web.body import bounded
from carso.web.refusal import RefusedError

R = TypeVar("R", bound=BaseModel)


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    image: str
    seed: int = Field(default=0, ge=0, le=2**31)


class AttackRequest(_Request):
    """An attack on an image."""

    attack: str
    norm: Norm
    eps: float = Field(gt=0, le=20)
    aim: Aim = "classifier"


class VoteRequest(_Request):
    """A vote on an image, to its end if `whole`."""

    whole: bool = False


class WalkRequest(_Request):
    """A place in the plane of two latents."""

    first: float = Field(ge=-10, le=10)
    second: float = Field(ge=-10, le=10)


async def parse(request: Request, kind: type[R], most: int) -> R:
    """The body, `most` bytes of JSON, as a request of that kind.

    Raises:
        RefusedError: with status 400, naming the field that is wrong, or as `bounded` does.
    """
    try:
        return kind.model_validate_json(await bounded(request, most))
    except ValidationError as error:
        first = error.errors()[0]
        raise RefusedError(400, f"{'.'.join(map(str, first['loc'])) or 'the request'}: {first['msg']}") from error


def longest(shape: tuple[int, int, int]) -> int:
    """Bytes of a request with an image of that shape, at most."""
    return 4 * int(np.prod(shape)) * 4 // 3 + 2**12


def encode(image: Tensor) -> str:
    """An image as base64 of float32."""
    return base64.b64encode(image.detach().cpu().float().contiguous().numpy().tobytes()).decode("ascii")


def decode(text: str, studio: Studio) -> Images:
    """The image (1, C, H, W) of `encode`.

    Raises:
        RefusedError: with status 400 if it is no image of the studio's shape in [0, 1].
    """
    try:
        values = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, "image: not base64 of float32 values") from error
    if values.size != int(np.prod(studio.shape)):
        raise RefusedError(400, f"image: {values.size} values, but the defence takes {studio.shape}")
    if not (np.isfinite(values).all() and values.min() >= 0 and values.max() <= 1):
        raise RefusedError(400, "image: values must be in [0, 1]")
    return torch.from_numpy(values.copy()).view(1, *studio.shape)


def told(round_: Round) -> dict[str, Any]:
    """A round of a vote as JSON."""
    return vars(round_) | {"candidates": [encode(candidate) for candidate in round_.candidates]}
