"""Refusals: a request that is not served gets a status and one clear line of JSON, {"error": ...}."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from carso.errors import CarsoError


class RefusedError(Exception):
    """A request that cannot be served: an HTTP status and one clear line for who asked."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FullError(RefusedError):
    """As many requests as may be are let in; in `seconds`, those will be through."""

    def __init__(self, seconds: int, who: str) -> None:
        super().__init__(503, f"too many {who} are waiting; come back in {seconds} s")
        self.seconds = seconds


async def refusal(_: Request, error: Exception) -> Response:
    """A foreseen error as a status and one line of JSON."""
    status, headers = 400, {}
    if isinstance(error, FullError):
        headers = {"Retry-After": str(error.seconds)}
    if isinstance(error, RefusedError):
        status = error.status
    elif isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
    return JSONResponse({"error": str(error)}, status, headers)


HANDLERS = {kind: refusal for kind in (RefusedError, HTTPException, CarsoError, ValueError)}
"""Of an application's exceptions."""
