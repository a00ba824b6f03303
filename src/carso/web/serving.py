"""HTTP that waits for nobody for ever: idle connections, half-sent requests and stalled readers are let go.

    IDLE     no request has begun, or its head has not arrived whole
    STALL    the answer is not read
    GRACE    the server is ended, and its last answers are not sent yet; what a thread computes is waited for
    MOST     connections at a time; a further one takes the place of the one that has been idle longest

A body that does not arrive whole is refused by `carso.web.body.bounded`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import socket

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from carso.web.guard import SAFE

IDLE, STALL, GRACE = 30.0, 30.0, 3.0
"""Seconds."""

MOST, BACKLOG = 512, 128
"""Connections, and those not yet accepted: together fewer than the files that a process may open, often 1,024."""


class Connection(H11Protocol):
    """A connection of bounded patience."""

    _last: RequestResponseCycle | None = None
    _since = 0.0
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch, and make room if there are too many."""
        super().connection_made(transport)
        self._since = self.loop.time()
        self._watch()
        self._make_room()

    @property
    def answering(self) -> bool:
        """Whether a request has begun and is not answered yet."""
        return self.cycle is not None and not self.cycle.response_complete

    def pause_writing(self) -> None:
        """Give the reader `STALL` seconds to go on."""
        super().pause_writing()
        self._stalled = self.loop.call_later(STALL, self.transport.abort)

    def resume_writing(self) -> None:
        """The reader goes on."""
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def shutdown(self) -> None:
        """End within `GRACE` seconds, answered or not."""
        super().shutdown()
        self.loop.call_later(GRACE, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, with the headers of every other answer."""
        body = json.dumps({"error": msg})
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"} | SAFE
        lines = ["HTTP/1.1 400 Bad Request", *(f"{name}: {value}" for name, value in headers.items()), "", body]
        self.transport.write("\r\n".join(lines).encode("ascii"))
        self.transport.close()

    def _make_room(self) -> None:
        here = [each for each in self.connections if isinstance(each, Connection) and not each.transport.is_closing()]
        if len(here) > MOST:
            min((each for each in here if not each.answering), key=lambda each: each._since).transport.abort()

    def _watch(self) -> None:
        """Let go of a connection on which, for `IDLE` seconds, nothing was answered and no request has begun."""
        now = self.loop.time()
        if self.answering or self.cycle is not self._last:
            self._last, self._since = self.cycle, now
        if now - self._since > IDLE:
            self.transport.abort()
        if not self.transport.is_closing():
            self.loop.call_later(1, self._watch)


def server_of(app: ASGIApp) -> uvicorn.Server:
    """The server of an application, not yet running."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            backlog=BACKLOG,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=math.ceil(IDLE),
            timeout_graceful_shutdown=math.ceil(2 * GRACE),
        )
    )


def run(app: ASGIApp, listener: socket.socket) -> None:
    """Run an application on a socket until interrupted."""
    with contextlib.suppress(KeyboardInterrupt):
        server_of(app).run(sockets=[listener])
