"""Where requests may come from, and the headers of every answer.

A page of another site can make a browser send requests to this machine, even under its own name (DNS rebinding). So
what computes must not be asked for by another origin, and the Host of what listens on loopback must be one of its
names.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from carso.errors import CarsoError, shown

LOOPBACK = ("localhost", "127.0.0.1", "::1")

SAFE = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """An application that answers only as itself and to itself, every answer with the headers `SAFE`.

    Args:
        app: what is guarded.
        hosts: names or addresses that it has beside those of loopback; None answers as whatever it is called.

    Raises:
        CarsoError: if one of the hosts is no name or address.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] | None = ()) -> None:
        self.app, self.hosts = app, None if hosts is None else {*LOOPBACK, *map(named, hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it with status 403."""

        async def sealed(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(SAFE)
            await send(message)

        reason = self.reason(scope) if scope["type"] == "http" else None
        answer: ASGIApp = self.app if reason is None else JSONResponse({"error": reason}, 403)
        await answer(scope, receive, sealed)

    def reason(self, scope: Scope) -> str | None:
        """Why a request is refused; None if it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts is not None and _name(host) not in self.hosts:
            return f"nothing here answers as {host[:80]!r}; if it should, start carso with --allow-host NAME"
        if scope["method"] not in ("GET", "HEAD") and _foreign(headers, host):
            return "what computes here is not for the pages of other sites"
        return None


def named(host: str) -> str:
    """The name or address in what a user calls a host, with or without a port.

    Raises:
        CarsoError: if there is none.
    """
    name = _name(f"[{host}]" if host.count(":") > 1 and "[" not in host else host)
    if not name or set(host) & set("/?#@* "):
        raise CarsoError(f"no request comes for a host {shown(host)}; name it as in 'example.org' or '192.0.2.7'")
    return name


def _name(host: str) -> str | None:
    """The name or address in a Host header; 'example.org.' is 'example.org', to the root of all names."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return None


def _foreign(headers: Headers, host: str) -> bool:
    """Whether a browser says that another origin asks; other programs say nothing."""
    origin = headers.get("origin", f"http://{host}").partition("://")[2]
    return origin.lower() != host.lower() or headers.get("sec-fetch-site", "same-origin") != "same-origin"
