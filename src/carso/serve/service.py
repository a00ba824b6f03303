"""The service as an application.

    POST /predict    images -> {"predictions": [{"class", "name", "share", "shares", "disagreement", "classifier",
                     "samples"}]}, one for each; what may be sent, `carso.serve.reading` says
    GET  /health     that it is up, and what it serves
    GET  /metrics    what it has done (`carso.serve.metrics`)

What is refused is told in one line, {"error": ...}: 400 and 413 for images that cannot be used, 408 for a body that
does not come, 415 for another content type, 503 with Retry-After for a full queue or no room for a body, 504 for no
answer in time; 500 for a defence that fails, whose error is in the log only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import carso
from carso.serve.answering import Answer, Answering
from carso.serve.batcher import BATCH, QUEUE, Batcher
from carso.serve.metrics import TYPE, Measured, Metrics
from carso.serve.reading import images_of, kind_of
from carso.types import Images
from carso.web.body import UPLOAD, Room, bounded
from carso.web.call import Call
from carso.web.guard import Guard
from carso.web.refusal import HANDLERS, FaultError, RefusedError

PREDICT = "/predict"

PATIENCE = 10.0
"""Seconds."""


class Service:
    """What can be asked of who answers.

    Args:
        answering: who answers.
        batcher: what gathers the requests.
        metrics: what counts them.
        patience: seconds after its body has come in which a request is answered or refused.
    """

    def __init__(self, answering: Answering, batcher: Batcher, metrics: Metrics, patience: float) -> None:
        self.answering, self.batcher, self.metrics, self.patience = answering, batcher, metrics, patience
        self.reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="reader")

    async def health(self, _: Request) -> Response:
        """That it is up, and what it serves."""
        served = self.answering
        facts: dict[str, Any] = {"status": "ok", "defence": served.name, "engine": served.engine}
        facts |= {"shape": served.shape, "classes": list(served.names), "samples": served.samples}
        return JSONResponse(facts | {"batch": self.batcher.batch, "carso": carso.__version__})

    async def counted(self, _: Request) -> Response:
        """What it has done."""
        return PlainTextResponse(self.metrics.text(self.batcher.admitted), media_type=TYPE)

    async def read(self, request: Request) -> tuple[str, bytes]:
        """The kind and the body of a request."""
        return kind_of(request.headers.get("content-type")), await bounded(request, UPLOAD)

    async def decoded(self, kind: str, body: bytes) -> Images:
        """The images (B, C, H, W) of a body, pictures decoded one at a time in turn with those of other requests."""
        served, found = self.answering, []
        images = images_of(body, kind, served.shape, self.batcher.batch, served.digits)
        while (image := await asyncio.get_running_loop().run_in_executor(self.reader, next, images, None)) is not None:
            found.append(image)
        return torch.stack(found)

    async def answered(self, images: Images) -> list[Answer]:
        """What is said of images (B, C, H, W).

        Raises:
            FaultError: if the defence fails on them, or on others of their batch.
        """
        try:
            return await self.batcher.ask(images)
        except Exception as error:
            raise FaultError("the defence failed") from error

    async def predict(self, asked: tuple[str, bytes], _: None) -> Response:
        """What is said of the images.

        Raises:
            RefusedError: with status 504 if it is not said in time.
        """
        try:
            async with asyncio.timeout(self.patience):
                answers = await self.answered(await self.decoded(*asked))
        except TimeoutError as error:
            raise RefusedError(504, f"not answered within {self.patience:g} s; come back later") from error
        self.metrics.answered(answers)
        return JSONResponse({"predictions": [answer.told(self.answering.names) for answer in answers]})

    def routes(self) -> list[Route]:
        """All that can be asked."""
        call = Call(lambda _: self.batcher.admit(), self.read, self.predict)
        posted = Route(PREDICT, call, methods=["POST"])
        return [Route("/health", self.health), Route("/metrics", self.counted), posted]


def application(
    answering: Answering,
    batch: int = BATCH,
    queue: int = QUEUE,
    patience: float = PATIENCE,
    hosts: Iterable[str] | None = None,
) -> Measured:
    """The service of who answers; sizes as `Batcher` takes them, patience as `Service`, hosts as `Guard`."""
    metrics = Metrics()
    service = Service(answering, Batcher(answering, batch, queue, metrics.batch), metrics, patience)
    app = Starlette(routes=service.routes(), exception_handlers=HANDLERS)
    return Measured(Guard(Room(app), hosts), metrics, PREDICT)
