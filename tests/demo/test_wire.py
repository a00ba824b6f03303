"""A request with an image is as long as its shape says, and little longer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

pytest.importorskip("starlette")

from starlette.requests import Request

from carso.demo import wire
from carso.demo.wire import VoteRequest, longest, parse


def request(body: bytes) -> Request:
    async def receive() -> Any:
        return {"type": "http.request", "body": body}

    return Request({"type": "http", "headers": []}, receive)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 28, 28), (3, 224, 224)])
def test_every_image_of_the_shape_fits_the_bound_and_little_more(shape: tuple[int, int, int]) -> None:
    asked = VoteRequest(image=wire.encode(torch.rand(1, *shape)), seed=2**31, whole=True)
    body = asked.model_dump_json().encode()
    assert len(body) < longest(shape) < len(body) + 5000
    assert asyncio.run(parse(request(body), VoteRequest, longest(shape))) == asked
