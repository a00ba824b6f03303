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


class FaultError(Exception):
    """Something failed here, and not by what was asked: whoever asked is told no more, its cause is in the log."""


async def fault(_: Request, __: Exception) -> Response:
    """An error that was not foreseen as status 500 and one line of JSON that tells nothing of it."""
    return JSONResponse({"error": "this failed here, not by what was asked; the log of the server says why"}, 500)


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


HANDLERS = {RefusedError: refusal, HTTPException: refusal, CarsoError: refusal, Exception: fault}
"""Of an application's exceptions."""
