"""What waits is answered together; a full queue refuses at once; what nobody waits for is not computed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import torch
from tests.serve.conftest import Echo

pytest.importorskip("starlette")

from carso.serve.answering import Answer
from carso.serve.batcher import Batcher
from carso.types import Images
from carso.web.refusal import FullError


def of(*classes: int) -> Images:
    """Images of which `Echo` says these classes."""
    return torch.tensor([(k + 0.5) / 5 for k in classes]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)


def tell(story: Callable[[], Awaitable[Any]]) -> Any:
    async def within() -> Any:
        return await asyncio.wait_for(story(), 20)

    return asyncio.run(within())


def labels(answers: list[Answer]) -> list[int]:
    return [answer.label for answer in answers]


def test_requests_that_wait_are_answered_together_each_with_its_own(echo: Echo) -> None:
    async def story() -> None:
        batcher = Batcher(echo, batch=8)
        found = await asyncio.gather(*(batcher.ask(of(k, 4 - k)) for k in range(4)))
        assert [labels(answers) for answers in found] == [[k, 4 - k] for k in range(4)]
        assert echo.batches == [8]

    tell(story)


def test_a_batch_is_no_larger_than_it_may_be_and_no_request_is_torn_apart(echo: Echo) -> None:
    async def story() -> None:
        batcher = Batcher(echo, batch=4)
        found = await asyncio.gather(*(batcher.ask(of(*[k] * 3)) for k in range(3)), batcher.ask(of(1)))
        assert [labels(answers) for answers in found] == [[0] * 3, [1] * 3, [2] * 3, [1]]
        assert echo.batches == [3, 3, 4]

    tell(story)


def test_a_single_request_does_not_wait_for_others(echo: Echo) -> None:
    async def story() -> None:
        began = time.perf_counter()
        assert labels(await Batcher(echo).ask(of(3))) == [3]
        assert time.perf_counter() - began < 1

    tell(story)


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(echo: Echo) -> None:
    batcher = Batcher(echo, batch=2, queue=2)
    batcher.took = 3.0
    with batcher.admit(), batcher.admit():
        with pytest.raises(FullError, match="too many requests are waiting; come back in 3 s") as refused:
            batcher.admit().__enter__()
        assert (refused.value.status, refused.value.seconds) == (503, 3)
    with batcher.admit():
        assert batcher.admitted == 1


class Held(Echo):
    """Answers when it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self, images: Images) -> list[Answer]:
        self.begun.set()
        self.go.wait(10)
        return super().__call__(images)


def test_what_nobody_waits_for_any_more_is_not_computed() -> None:
    async def story() -> None:
        held = Held()
        batcher = Batcher(held, batch=1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.gather(batcher.ask(of(0)), batcher.ask(of(1)))
        held.go.set()
        assert labels(await batcher.ask(of(2))) == [2]
        assert held.batches == [1, 1]

    tell(story)


def test_what_comes_while_a_batch_is_computed_makes_the_next() -> None:
    async def story() -> None:
        held = Held()
        batcher = Batcher(held, batch=8)
        first = asyncio.create_task(batcher.ask(of(0)))
        await asyncio.to_thread(held.begun.wait, 5)
        others = [asyncio.create_task(batcher.ask(of(k))) for k in range(5)]
        await asyncio.sleep(0)
        held.go.set()
        await asyncio.gather(first, *others)
        assert held.batches == [1, 5]

    tell(story)


def test_an_error_is_for_those_who_asked_and_the_next_goes_on(echo: Echo) -> None:
    def answer(images: Images) -> list[Answer]:
        if len(images) == 2:
            raise ZeroDivisionError("two")
        return echo(images)

    async def story() -> None:
        batcher = Batcher(answer, batch=2)
        with pytest.raises(ZeroDivisionError, match="two"):
            await batcher.ask(of(1, 2))
        assert labels(await batcher.ask(of(3))) == [3]

    tell(story)


def test_batches_are_noted(echo: Echo) -> None:
    noted: list[tuple[int, float]] = []

    async def story() -> None:
        await Batcher(echo, note=lambda images, seconds: noted.append((images, seconds))).ask(of(1, 2))

    tell(story)
    assert [images for images, _ in noted] == [2]
    assert noted[0][1] >= 0
