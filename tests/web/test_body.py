"""Bodies have a length and a time, and pictures are shrunk before anything is computed of them."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("starlette")

from starlette.requests import Request

from carso.web import body
from carso.web.body import SIDE, Room, bounded, picture
from carso.web.refusal import FullError, RefusedError


def png(size: tuple[int, int], mode: str = "L") -> bytes:
    """A bar that fills the middle fifth and half the height."""
    image = Image.new(mode, size)
    width, height = size
    white: Any = 255 if len(mode) == 1 else (255,) * len(mode)
    image.paste(white if mode != "I;16" else 65535, (2 * width // 5, height // 4, 3 * width // 5, 3 * height // 4))
    return encoded(image)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(3000, 2000), (2000, 3000), (9000, 40)])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "RGB", "RGBA", "I;16"])
def test_pictures_are_shrunk_before_they_become_floats(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], mode: str
) -> None:
    seen: list[tuple[int, int]] = []

    def prepare(image: Image.Image, shape: tuple[int, int, int], digit: bool) -> torch.Tensor:
        seen.append(image.size)
        return torch.zeros(shape)

    monkeypatch.setattr(body, "prepare", prepare)
    picture(png(size, mode), (1, 28, 28))
    assert max(seen[0]) == SIDE
    assert seen[0][0] / seen[0][1] == pytest.approx(size[0] / size[1], rel=0.2)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_a_digit_stays_the_same_however_large_its_picture(mode: str) -> None:
    small, large = (picture(png((side, side), mode), (1, 28, 28)) for side in (500, 5000))
    torch.testing.assert_close(large, small, atol=0.06, rtol=0)


def test_a_large_jpeg_is_decoded_to_twice_what_is_kept_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[tuple[int, int]] = []
    shrunk = body._shrunk
    monkeypatch.setattr(body, "_shrunk", lambda image, side: decoded.append(image.size) or shrunk(image, side))
    monkeypatch.setattr(body, "SIDE", 40)
    picture(encoded(Image.new("RGB", (700, 350)), "JPEG"), (3, 20, 30))
    picture(encoded(Image.new("RGB", (700, 350)), "JPEG"), (3, 20, 90))
    assert decoded == [(175, 88), (700, 350)]


@pytest.mark.parametrize("mode", ["1", "P"])
def test_thin_lines_of_one_bit_or_a_palette_are_averaged_not_left_out(mode: str) -> None:
    image = Image.new("L", (4000, 4000))
    for column in range(2, 4000, 4):
        image.paste(255, (column, 0, column + 1, 4000))
    shaded, plain = (picture(encoded(one), (1, 20, 20)) for one in (image, image.convert(mode)))
    torch.testing.assert_close(plain, shaded, atol=0.02, rtol=0)


def test_a_small_picture_is_not_touched() -> None:
    expected = torch.zeros(1, 20, 20)
    expected[0, 5:15, 8:12] = 1
    assert torch.equal(picture(png((20, 20)), (1, 20, 20)), expected)


def test_a_model_that_takes_no_pictures_is_sent_none() -> None:
    with pytest.raises(RefusedError, match="pictures have 1 or 3 channels, but the model takes 2") as refused:
        picture(png((20, 20)), (2, 20, 20))
    assert refused.value.status == 400


def request(*chunks: bytes, then: Callable[[], Awaitable[Any]] | None = None) -> Request:
    """A request whose body comes in chunks; then nothing more, or as `then` says."""
    left = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]

    async def receive() -> Any:
        return left.pop(0) if left else await then() if then else {"type": "http.request", "body": b""}

    return Request({"type": "http", "headers": []}, receive)


def test_a_body_is_read_up_to_its_bound() -> None:
    assert asyncio.run(bounded(request(b"ab", b"c"), 3)) == b"abc"
    with pytest.raises(RefusedError, match="larger than 8 kB") as refused:
        asyncio.run(bounded(request(b"a" * 8192, b"b"), 8192))
    assert refused.value.status == 413


def test_a_body_that_does_not_arrive_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "PATIENCE", 0.05)
    with pytest.raises(RefusedError, match="did not arrive") as refused:
        asyncio.run(bounded(request(b"half", then=lambda: asyncio.sleep(60)), 100))
    assert refused.value.status == 408


def test_all_bodies_together_are_bounded_until_they_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "ROOM", 10)

    async def story() -> None:
        answered = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await Request(scope, receive).body()
            await answered.wait()

        room = Room(app)

        async def ask(content: bytes) -> None:
            await room({"type": "http", "headers": []}, request(content).receive, None)

        first = asyncio.create_task(ask(b"a" * 6))
        await asyncio.sleep(0)
        with pytest.raises(FullError, match="too many large requests are waiting; come back in 30 s"):
            await ask(b"a" * 5)
        assert room.held == 6
        answered.set()
        await first
        await ask(b"a" * 10)
        assert room.held == 0

    asyncio.run(story())
