"""How a computation is asked for: let in once, read, carried out in turns, and dropped when its visitor leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from carso.demo.turns import Turns, Visit

T = TypeVar("T")


class Call(Generic[T]):
    """A computation as an ASGI application.

    Args:
        turns: what lets it in, from before its body is read until its answer is sent.
        read: the body of a request as what `work` takes.
        work: the answer, computed by `Visit.run`.
    """

    def __init__(
        self,
        turns: Turns,
        read: Callable[[Request], Awaitable[T]],
        work: Callable[[T, Visit], Coroutine[Any, Any, Response]],
    ) -> None:
        self.turns, self.read, self.work = turns, read, work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; one whose visitor leaves is not answered."""
        request = Request(scope, receive)
        with self.turns.admit(visitor(request)) as visit:
            try:
                asked = await self.read(request)
            except ClientDisconnect:
                return
            response = await while_here(receive, self.work(asked, visit))
            if response is not None:
                await response(scope, receive, send)


def visitor(request: Request) -> str:
    """Who asks: the name that a page gives itself, else the connection."""
    return request.headers.get("x-visitor", str(request.client))[:64]


async def while_here(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work comes to; None, with the work dropped, if the visitor leaves before."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_leaving(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        working.cancel()
        leaving.cancel()


async def _leaving(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
