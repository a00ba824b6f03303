"""Requests answered together: who is let in, and what makes a batch.

    queue       requests that are in at a time, decoded, waiting or computed; a further one is told when to come back
    batch       what waits, up to so many images, as soon as they are there or `GATHER` seconds after the first came

One batch is computed at a time, in a thread of its own, while the next one gathers.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import torch

from carso.serve.answering import Answer
from carso.types import Images
from carso.web.refusal import FullError

BATCH, QUEUE = 32, 128

GATHER = 0.005
"""Seconds."""


@dataclass(frozen=True)
class Asked:
    """Images (B, C, H, W) of one request, and the promise of its answers."""

    images: Images
    answers: asyncio.Future[list[Answer]]


class Batcher:
    """Gathers requests and has them answered.

    Args:
        answer: images (B, C, H, W) to an answer each.
        batch: images at a time, and of one request, at most.
        queue: requests that are in at a time.
        note: told of each batch, how many images it had and the seconds that it took.
    """

    def __init__(
        self,
        answer: Callable[[Images], list[Answer]],
        batch: int = BATCH,
        queue: int = QUEUE,
        note: Callable[[int, float], object] = lambda images, seconds: None,
    ) -> None:
        self.answer, self.batch, self.queue, self.note = answer, batch, queue, note
        self.admitted, self.took = 0, 0.1
        self.line: deque[Asked] = deque()
        self.working: asyncio.Task[None] | None = None
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="answers")

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Let a request in until it is left.

        Raises:
            FullError: if the queue is full.
        """
        if self.admitted >= self.queue:
            raise FullError(self.wait(), "requests")
        self.admitted += 1
        try:
            yield
        finally:
            self.admitted -= 1

    def wait(self) -> int:
        """Seconds, at least 1, in which a full queue of single images is through."""
        return max(1, math.ceil(self.took * self.queue / self.batch))

    async def ask(self, images: Images) -> list[Answer]:
        """The answers to the images (B, C, H, W) of a request, in the batch that they come to be in."""
        asked = Asked(images, asyncio.get_running_loop().create_future())
        self.line.append(asked)
        if self.working is None or self.working.done():
            self.working = asyncio.create_task(self._work())
        return await asked.answers

    async def _work(self) -> None:
        while self.line:
            if sum(len(asked.images) for asked in self.line) < self.batch:
                await asyncio.sleep(GATHER)
            if together := self._next():
                await self._answer(together)

    def _next(self) -> list[Asked]:
        """The first requests whose images fit into a batch; those that nobody waits for any more are dropped."""
        together: list[Asked] = []
        room = self.batch
        while self.line and (not together or len(self.line[0].images) <= room):
            asked = self.line.popleft()
            if not asked.answers.done():
                together.append(asked)
                room -= len(asked.images)
        return together

    async def _answer(self, together: list[Asked]) -> None:
        images, began = torch.cat([asked.images for asked in together]), time.perf_counter()
        try:
            found = iter(await asyncio.get_running_loop().run_in_executor(self.worker, self.answer, images))
        except Exception as error:  # belongs to whoever asked; the next batch goes on
            for asked in together:
                if not asked.answers.done():
                    asked.answers.set_exception(error)
            return
        seconds = time.perf_counter() - began
        self.took += (seconds - self.took) / 10
        self.note(len(images), seconds)
        for asked in together:
            answers = list(islice(found, len(asked.images)))
            if not asked.answers.done():
                asked.answers.set_result(answers)
