"""How a computation is asked for: read, let in once, carried out, and dropped when who asked leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")
V = TypeVar("V")


class Call(Generic[T, V]):
    """A computation as an ASGI application.

    Args:
        admit: what lets it in, from when its body is there until its answer is sent: a slow sender takes no place.
        read: the body of a request as what `work` takes.
        work: the answer, from that and what `admit` gave.
    """

    def __init__(
        self,
        admit: Callable[[Request], AbstractContextManager[V]],
        read: Callable[[Request], Awaitable[T]],
        work: Callable[[T, V], Coroutine[Any, Any, Response]],
    ) -> None:
        self.admit, self.read, self.work = admit, read, work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; one whose sender leaves is not answered."""
        request = Request(scope, receive)
        try:
            asked = await self.read(request)
        except ClientDisconnect:
            return
        with self.admit(request) as visit:
            response = await while_here(receive, self.work(asked, visit))
            if response is not None:
                await response(scope, receive, send)


async def while_here(receive: Receive, work: Coroutine[Any, Any, T]) -> T | None:
    """What the work comes to; None, with the work dropped, if who asked leaves before."""
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
