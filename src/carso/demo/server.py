"""The demo's server: one page, and the studio behind it as JSON.

    GET  /                 the page
    GET  /api/defence      name, shape, classes, attacks, latents to walk, how many images there are to pick from
    GET  /api/pick?index=  an image of the data set and its class, if that is known
    POST /api/picture      a PNG or JPEG -> an image
    POST /api/attack       image, attack, norm, eps, aim -> the attacked image, the distance, the classifiers' answers
    POST /api/vote         image -> the vote, one JSON line per round
    POST /api/walk         image, first, second -> the image recalled there

Images travel as base64 of float32, (C, H, W), so that nothing is rounded between attack and answer. One computation
runs at a time; a few may wait, the others are told to come back.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib import resources
from typing import Any, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from torch import Tensor

from carso.data.image import open_image, prepare
from carso.demo.studio import ATTACKS, SHOWN, Aim, Round, Studio
from carso.errors import CarsoError, DataError
from carso.recall import rounds
from carso.types import Images, Norm

UPLOAD = 8 * 2**20
"""Bytes of a picture, at most."""

WAITING = 4
"""Requests that may wait for the one that computes."""

FILES = {
    "": ("index.html", "text/html"),
    "style.css": ("style.css", "text/css"),
    **{f"{name}.js": (f"{name}.js", "text/javascript") for name in ("script", "pad", "pixels", "vote")},
}
SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


R = TypeVar("R", bound=BaseModel)


class RefusedError(Exception):
    """A request that cannot be served: an HTTP status and one clear line for the page."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid")

    image: str = Field(max_length=2**22)
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


class Turn:
    """One computation at a time, and a queue of bounded length."""

    def __init__(self, waiting: int = WAITING) -> None:
        self.waiting, self.queued, self.lock = waiting, 0, asyncio.Lock()

    @contextlib.asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        """Wait for the turn.

        Raises:
            RefusedError: with status 503 if too many wait already.
        """
        if self.queued > self.waiting:
            raise RefusedError(503, "too many visitors are waiting; try again in a moment")
        self.queued += 1
        try:
            async with self.lock:
                yield
        finally:
            self.queued -= 1


def application(studio: Studio) -> Starlette:
    """The demo of a studio as an ASGI application."""
    turn = Turn()

    async def defence(_: Request) -> Response:
        return JSONResponse(facts(studio))

    async def pick(request: Request) -> Response:
        index = request.query_params.get("index", "0")
        if not index.isdecimal() or len(index) > 9:
            raise RefusedError(400, f"index must be a whole number, not {index!r}")
        image, label = studio.pick(int(index))
        return JSONResponse({"image": encode(image), "label": label})

    async def picture(request: Request) -> Response:
        body = await bounded(request, UPLOAD)
        try:
            image = await run_in_threadpool(lambda: prepare(open_image(body), studio.shape))
        except DataError as error:
            raise RefusedError(400, f"the picture {error}") from error
        return JSONResponse({"image": encode(image)})

    async def attack(request: Request) -> Response:
        asked = await parse(request, AttackRequest)
        image = decode(asked.image, studio)
        async with turn():
            started = time.perf_counter()
            attacked = await run_in_threadpool(
                studio.attack, image, asked.attack, asked.norm, asked.eps, asked.aim, asked.seed
            )
            seconds = time.perf_counter() - started
            answers = {
                name: [vars(answer) for answer in await run_in_threadpool(studio.answers, which)]
                for name, which in (("clean", image), ("attacked", attacked))
            }
            answers["clean"].append(vars(await run_in_threadpool(studio.elected, image, asked.seed)))
        moved = attacked - image
        distance = {"Linf": float(moved.abs().max()), "L2": float(moved.norm())}
        return JSONResponse({"image": encode(attacked), "distance": distance, "seconds": seconds, "answers": answers})

    async def vote(request: Request) -> Response:
        asked = await parse(request, VoteRequest)
        rounds_ = studio.vote(decode(asked.image, studio), asked.seed, asked.whole)

        async def lines() -> AsyncIterator[str]:
            try:
                while True:  # a turn for each round, so that a slow reader keeps nobody waiting
                    async with turn():
                        round_ = await run_in_threadpool(next, rounds_, None)
                    if round_ is None:
                        return
                    yield json.dumps(told(round_)) + "\n"
            except RefusedError as refused:
                yield json.dumps({"error": str(refused)}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def walk(request: Request) -> Response:
        asked = await parse(request, WalkRequest)
        async with turn():
            recalled = await run_in_threadpool(studio.walk, decode(asked.image, studio), asked.first, asked.second)
        return JSONResponse({"image": encode(recalled)})

    calls = (defence, pick), (picture, attack, vote, walk)
    routes = [
        Route(f"/api/{f.__name__}", answered(f), methods=[m])
        for m, fs in zip(("GET", "POST"), calls, strict=True)
        for f in fs
    ]
    return Starlette(routes=[*(Route(f"/{name}", static(name)) for name in FILES), *routes])


def facts(studio: Studio) -> dict[str, Any]:
    """What the page needs to know of a studio."""
    defence = studio.defence
    return {
        "name": studio.name,
        "shape": studio.shape,
        "classes": studio.classes,
        "attacks": {key: title for key, (title, _options) in ATTACKS.items()},
        "picks": 0 if studio.dataset is None else len(studio.dataset),
        "latent": defence.purifier.latent,
        "axes": studio.axes,
        "samples": defence.samples,
        "first": next(rounds(defence.samples, "confident"))[1],
        "error": defence.error,
        "shown": SHOWN,
    }


def answered(handler: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    """The handler with every foreseen error as a status and one line of JSON."""

    async def handle(request: Request) -> Response:
        try:
            response = await handler(request)
        except RefusedError as refused:
            response = JSONResponse({"error": str(refused)}, refused.status)
        except (CarsoError, ValueError) as error:
            response = JSONResponse({"error": str(error)}, 400)
        response.headers.update(SAFE)
        return response

    return handle


def static(name: str) -> Callable[[Request], Awaitable[Response]]:
    """A file of the page."""
    file, kind = FILES[name]
    content = (resources.files("carso.demo") / "page" / file).read_bytes()

    async def handle(_: Request) -> Response:
        return Response(content, media_type=kind, headers=SAFE)

    return handle


async def bounded(request: Request, most: int) -> bytes:
    """The body of a request.

    Raises:
        RefusedError: with status 413 once it is longer than `most` bytes.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise RefusedError(413, f"the file is larger than {most // 2**20} MB; scale it down")
    return bytes(body)


async def parse(request: Request, kind: type[R]) -> R:
    """The body as a request of that kind.

    Raises:
        RefusedError: with status 400, naming the field that is wrong.
    """
    try:
        return kind.model_validate_json(await bounded(request, UPLOAD))
    except ValidationError as error:
        first = error.errors()[0]
        raise RefusedError(400, f"{'.'.join(map(str, first['loc'])) or 'the request'}: {first['msg']}") from error


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
    """A round_ as JSON."""
    candidates = [encode(candidate) for candidate in round_.candidates]
    return {
        "counts": round_.counts,
        "samples": round_.samples,
        "decided": round_.decided,
        "candidates": candidates,
        "votes": round_.votes,
    }


def serve(studio: Studio, host: str, port: int) -> None:
    """Run the demo until interrupted."""
    import uvicorn

    uvicorn.run(application(studio), host=host, port=port, log_level="warning", limit_concurrency=64)
