from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Awaitable, Callable

import pytest
import torch
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

from starlette.testclient import TestClient

from carso.demo.server import application
from carso.demo.studio import Studio
from carso.demo.wire import decode, encode
from carso.web.guard import SAFE, Guard


@pytest.fixture(scope="module")
def client(studio: Studio) -> TestClient:
    return TestClient(application(studio), base_url="http://localhost")


def picture(size: tuple[int, int] = (40, 40), kind: str = "PNG", mode: str = "L", **options: object) -> bytes:
    image = Image.new(mode, size, 0)
    image.paste(255 if mode == "L" else (255, 255, 255), (size[0] // 3, size[1] // 4, size[0] // 2, 3 * size[1] // 4))
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def animated() -> bytes:
    frames = [Image.new("L", (30, 30), shade) for shade in (0, 128, 255)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def transparent(opacity: int) -> bytes:
    """A black stroke on nothing."""
    image = Image.new("RGBA", (40, 40), (0, 0, 0, 0))
    image.paste((0, 0, 0, opacity), (18, 8, 23, 32))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def huge() -> bytes:
    """A few kilobytes that would decode to 100 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    return buffer.getvalue()


def test_images_travel_without_rounding(studio: Studio) -> None:
    image = torch.rand(1, 1, 28, 28)
    assert torch.equal(decode(encode(image), studio), image)


def test_the_page_and_its_files_are_served_and_say_what_may_run(client: TestClient) -> None:
    page = client.get("/").text + client.get("/script.js").text
    used = re.findall(r'(?:href|src|from) ?=? ?"(?:\./)?([\w.]+)"', page)
    kinds = {"css": "text/css", "js": "text/javascript"}
    assert set(used) == {"style.css", "script.js", "request.js", "pad.js", "pixels.js", "vote.js"}
    for path, kind in [("", "text/html"), *((name, kinds[name.rpartition(".")[2]]) for name in used)]:
        answer = client.get(f"/{path}")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        assert "default-src 'self'" in answer.headers["content-security-policy"]


def test_an_attack_answers_for_every_model(client: TestClient, studio: Studio) -> None:
    image = client.get("/api/pick?index=3").json()["image"]
    asked = {"image": image, "attack": "fgsm", "norm": "Linf", "eps": 0.1}
    found = client.post("/api/attack", json=asked).json()
    assert found["distance"]["Linf"] == pytest.approx(0.1, abs=1e-6)
    assert [answer["model"] for answer in found["answers"]["attacked"]] == ["undefended", "adversarially_trained"]
    expected = studio.answers(decode(found["image"], studio))
    assert [answer["label"] for answer in found["answers"]["attacked"]] == [answer.label for answer in expected]
    assert found["answers"]["clean"][-1]["label"] == studio.elected(decode(image, studio)).label


def test_the_vote_comes_line_by_line(client: TestClient) -> None:
    image = client.get("/api/pick?index=0").json()["image"]
    lines = [json.loads(line) for line in client.post("/api/vote", json={"image": image}).text.splitlines()]
    assert [line["samples"] for line in lines][:4] == [5, 10, 15, 20]
    assert lines[-1]["decided"]
    assert len(lines[0]["candidates"]) == len(lines[0]["votes"]) == 5


def test_a_whole_vote_goes_to_the_last_candidate(client: TestClient, studio: Studio) -> None:
    image = client.get("/api/pick?index=0").json()["image"]
    lines = client.post("/api/vote", json={"image": image, "whole": True}).text.splitlines()
    assert sum(json.loads(lines[-1])["counts"]) == studio.defence.samples


def test_a_reader_who_stops_reading_keeps_nobody_waiting(studio: Studio) -> None:
    async def meet() -> int:
        app, image = application(studio), encode(studio.pick(0)[0])
        first, stuck = asyncio.Event(), asyncio.Event()

        async def stop_reading(message: dict[str, object]) -> None:
            if message["type"] == "http.response.body":
                first.set()
                await stuck.wait()

        slow = asyncio.create_task(call(app, "/api/vote", {"image": image}, stop_reading))
        await first.wait()
        statuses: list[int] = []

        async def read(message: dict[str, object]) -> None:
            if message["type"] == "http.response.start":
                statuses.append(int(str(message["status"])))

        await asyncio.wait_for(call(app, "/api/walk", {"image": image, "first": 0, "second": 0}, read), 30)
        slow.cancel()
        return statuses[0]

    assert asyncio.run(meet()) == 200


async def call(app: Guard, path: str, body: object, send: Callable[[dict[str, object]], Awaitable[None]]) -> None:
    """A POST by the ASGI protocol alone; the body arrives at once and the client stays."""
    sent = [{"type": "http.request", "body": json.dumps(body).encode()}]

    async def receive() -> dict[str, object]:
        return sent.pop() if sent else await asyncio.Future()

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST"}
    where = {
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"localhost")],
        "root_path": "",
        "scheme": "http",
    }
    await app(scope | where | {"client": ("test", 1), "server": ("test", 1)}, receive, send)


@pytest.mark.parametrize(
    "body",
    [picture(), picture((600, 400), "JPEG"), picture((28, 28)), picture(mode="RGB"), transparent(255), picture((6, 6))],
    ids=["grey", "photograph", "ready", "colour", "transparent", "tiny"],
)
def test_pictures_become_images(client: TestClient, studio: Studio, body: bytes) -> None:
    found = client.post("/api/picture", content=body)
    assert found.status_code == 200, found.text
    assert decode(found.json()["image"], studio).shape == (1, 1, 28, 28)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the picture is not a PNG or JPEG"),
        (b"not a picture at all", 400, "the picture is not a PNG or JPEG"),
        (picture()[:60], 400, "damaged"),
        (animated(), 400, "animated"),
        (picture((40, 40), "GIF"), 400, "PNG or JPEG"),
        (b"\0" * (8 * 2**20 + 1), 413, "larger than 8 MB"),
        (transparent(0), 400, "no digit"),
        (picture((1, 1)), 400, "no digit"),
        (huge(), 400, "pixels; scale it down"),
    ],
    ids=["empty", "text", "cut", "animated", "gif", "long", "invisible", "one pixel", "bomb"],
)
def test_nonsense_is_refused_with_one_clear_line(client: TestClient, body: bytes, status: int, message: str) -> None:
    found = client.post("/api/picture", content=body)
    assert found.status_code == status
    assert message in found.json()["error"]
    assert "Traceback" not in found.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "AAAA"}, "float32"),
        ({"image": "!"}, "base64"),
        ({"image": encode(torch.full((1, 1, 28, 28), 2.0))}, "[0, 1]"),
        ({"image": encode(torch.full((1, 1, 28, 28), torch.nan))}, "[0, 1]"),
        ({"eps": -1}, "eps"),
        ({"norm": "L7"}, "norm"),
        ({"attack": "magic"}, "no attack 'magic'"),
        ({"more": 1}, "more"),
    ],
)
def test_requests_are_checked_field_by_field(client: TestClient, change: dict[str, object], message: str) -> None:
    image = client.get("/api/pick").json()["image"]
    asked = {"image": image, "attack": "fgsm", "norm": "Linf", "eps": 0.1} | change
    found = client.post("/api/attack", json=asked)
    assert found.status_code == 400
    assert message in found.json()["error"]


def test_a_bad_index_is_named(client: TestClient) -> None:
    assert "'-1'" in client.get("/api/pick?index=-1").json()["error"]


def test_what_fails_in_the_demo_is_told_without_its_text(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ValueError("in /home/me")

    monkeypatch.setattr(studio, "walk", fail)
    client = TestClient(application(studio), base_url="http://localhost", raise_server_exceptions=False)
    asked = {"image": encode(torch.zeros(1, 1, 28, 28)), "first": 0, "second": 0}
    found = client.post("/api/walk", json=asked)
    assert found.status_code == 500
    assert found.json() == {"error": "this failed here, not by what was asked; the log of the server says why"}


def test_the_demos_refusals_have_them_too_and_are_json(studio: Studio) -> None:
    client = TestClient(application(studio, capacity=0), base_url="http://localhost")
    refused = client.get("/nothing"), client.get("/api/pick?index=a"), client.post("/api/picture", content=b"")
    assert [answer.status_code for answer in refused] == [404, 400, 503]
    for answer in refused:
        assert {name: answer.headers[name] for name in SAFE} == SAFE
        assert answer.json()["error"]
    assert refused[2].headers["retry-after"] == "1"
