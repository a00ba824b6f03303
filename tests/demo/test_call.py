"""A computation is let in once, keeps its place until its answer is sent, and is dropped when its visitor leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from carso.demo.server import visitor
from carso.demo.turns import Turns, Visit
from carso.web.call import Call
from carso.web.refusal import FullError

Message = dict[str, Any]
BODY: Message = {"type": "http.request", "body": b"asked", "more_body": False}
GONE: Message = {"type": "http.disconnect"}


def admitting(turns: Turns) -> Callable[[Request], AbstractContextManager[Visit]]:
    return lambda request: turns.admit(visitor(request))


async def read(request: Request) -> bytes:
    return await request.body()


def client(*messages: Message, then: asyncio.Future[Message] | None = None) -> Callable[[], Awaitable[Message]]:
    """A visitor who sends messages, and then one more when it comes."""
    left = list(messages)

    async def receive() -> Message:
        return left.pop(0) if left else await (then or asyncio.Future())

    return receive


async def ask(
    call: Call[bytes, Visit], receive: Callable[[], Awaitable[Message]], headers: dict[str, str] | None = None
) -> list[Message]:
    """What is sent in answer."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    await call({"type": "http", "method": "POST", "headers": raw, "client": ("test", 1)}, receive, send)
    return sent


async def answer(asked: bytes, visit: Visit) -> Response:
    return PlainTextResponse(await visit.run(asked.upper))


def test_what_is_read_is_computed_and_answered() -> None:
    async def story() -> None:
        turns = Turns()
        sent = await ask(Call(admitting(turns), read, answer), client(BODY))
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
        assert sent[1]["body"] == b"ASKED"
        assert turns.admitted == 0

    asyncio.run(story())


def test_who_leaves_while_waiting_is_dropped_and_not_computed() -> None:
    async def story() -> None:
        turns, leaves, computed = Turns(), asyncio.Future[Message](), []

        async def work(asked: bytes, visit: Visit) -> Response:
            await visit.run(lambda: computed.append(asked))
            return PlainTextResponse("late")

        async with turns.turn("other"):
            task = asyncio.create_task(
                ask(Call(admitting(turns), read, work), client(BODY, then=leaves), {"x-visitor": "one"})
            )
            while not turns.place("one"):
                await asyncio.sleep(0)
            leaves.set_result(GONE)
            assert await asyncio.wait_for(task, 5) == []
            assert turns.admitted == 0
            assert turns.place("one") == 0
        assert computed == []

    asyncio.run(story())


def test_who_leaves_while_sending_is_dropped() -> None:
    async def story() -> None:
        turns = Turns()
        half = BODY | {"more_body": True}
        assert await ask(Call(admitting(turns), read, answer), client(half, GONE)) == []
        assert turns.admitted == 0

    asyncio.run(story())


def test_who_sends_slowly_takes_no_place_until_all_is_there() -> None:
    async def story() -> None:
        turns, sent = Turns(capacity=1), asyncio.Queue[Message]()
        sent.put_nowait(BODY | {"more_body": True})
        call = Call(admitting(turns), read, answer)
        slow = asyncio.create_task(ask(call, sent.get))
        await asyncio.sleep(0)
        assert turns.admitted == 0
        assert (await ask(call, client(BODY)))[1]["body"] == b"ASKED"
        sent.put_nowait(BODY)
        assert (await asyncio.wait_for(slow, 5))[1]["body"] == b"ASKEDASKED"

    asyncio.run(story())


def test_an_answer_in_parts_keeps_its_admission_to_its_end() -> None:
    async def story() -> None:
        turns, seen = Turns(capacity=1), []

        async def parts(asked: bytes, visit: Visit) -> Response:
            async def lines() -> AsyncIterator[str]:
                for k in range(3):
                    seen.append(turns.admitted)
                    with pytest.raises(FullError):
                        await ask(Call(admitting(turns), read, answer), client(BODY))
                    yield await visit.run(lambda k=k: f"{k}")

            return StreamingResponse(lines())

        sent = await ask(Call(admitting(turns), read, parts), client(BODY))
        assert b"".join(message["body"] for message in sent[1:]) == b"012"
        assert seen == [1, 1, 1]
        assert turns.admitted == 0

    asyncio.run(story())


def test_errors_of_the_work_are_raised_and_leave_the_place() -> None:
    async def work(asked: bytes, visit: Visit) -> Response:
        raise ValueError("wrong")

    async def story() -> None:
        turns = Turns()
        with pytest.raises(ValueError, match="wrong"):
            await ask(Call(admitting(turns), read, work), client(BODY))
        assert turns.admitted == 0

    asyncio.run(story())


@pytest.mark.parametrize(
    ("headers", "expected"),
    [({"x-visitor": "me"}, "me"), ({"x-visitor": "m" * 100}, "m" * 64), ({}, "Address(host='test', port=1)")],
)
def test_visitors_are_told_apart_by_the_name_they_give_else_by_their_connection(
    headers: dict[str, str], expected: str
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert visitor(Request({"type": "http", "headers": raw, "client": ("test", 1)})) == expected
