"""What is sent is answered or refused in one clear sentence, with the status that says whose fault it is."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import time
import tracemalloc
from typing import Any

import pytest
import torch
from PIL import Image
from tests.serve.conftest import NAMES, Echo

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

from starlette.applications import Starlette
from starlette.testclient import TestClient

from carso.defence import CARSO
from carso.errors import ModelError
from carso.serve import reading
from carso.serve.answering import Answer, ByTorch
from carso.serve.batcher import Batcher
from carso.serve.metrics import Metrics
from carso.serve.service import Service, application
from carso.types import Images
from carso.web.guard import Guard
from carso.web.refusal import HANDLERS, FaultError, RefusedError


def client_of(app: Guard) -> TestClient:
    return TestClient(app, base_url="http://carso.internal", raise_server_exceptions=False)


@pytest.fixture
def client(echo: Echo) -> TestClient:
    return client_of(application(echo, batch=3))


def picture(shade: int, kind: str = "PNG", size: tuple[int, int] = (9, 7)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade,) * 3).save(buffer, kind)
    return buffer.getvalue()


def post(client: TestClient, body: bytes, kind: str | None) -> Any:
    return client.post("/predict", content=body, headers={} if kind is None else {"content-type": kind})


@pytest.mark.parametrize(
    ("kind", "header"), [("PNG", "image/png"), ("JPEG", "image/jpeg"), ("JPEG", "IMAGE/JPEG; charset=binary")]
)
def test_a_picture_is_answered(client: TestClient, kind: str, header: str) -> None:
    found = post(client, picture(160, kind), header)
    assert found.status_code == 200
    (answer,) = found.json()["predictions"]
    assert answer == {
        "class": 3,
        "name": "dog",
        "share": 1.0,
        "shares": {name: float(name == "dog") for name in NAMES},
        "disagreement": True,
        "classifier": {"class": 0, "name": "ant"},
        "samples": 10,
    }


def test_lists_and_base64_are_answered_in_their_order(client: TestClient) -> None:
    grey, full = [[0.3, 0.0], [0.0, 1.0]], [[[0.9, 0.0], [0.0, 1.0]]]
    images = [grey, base64.b64encode(picture(0)).decode(), full]
    found = client.post("/predict", json={"images": images}).json()["predictions"]
    assert [answer["class"] for answer in found] == [1, 0, 4]
    assert [answer["disagreement"] for answer in found] == [True, False, True]


def test_a_defence_in_torch_is_served(defence: CARSO) -> None:
    client = client_of(application(ByTorch(defence, "mine")))
    (answer,) = client.post("/predict", json={"images": [[[0.5] * 8] * 8]}).json()["predictions"]
    assert answer["name"] in NAMES
    assert sum(answer["shares"].values()) == pytest.approx(1)
    assert answer["share"] == max(answer["shares"].values())
    assert answer["samples"] <= 40


PIXELS = [[0.5, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (picture(0), None, 415, "send image/png, image/jpeg or application/json as Content-Type, not 'nothing'"),
        (picture(0), "text/plain", 415, "not 'text/plain'"),
        (picture(0, "GIF"), "image/gif", 415, "not 'image/gif'"),
        (picture(0, "GIF"), "image/png", 400, "the picture is not a PNG or JPEG picture"),
        (picture(0)[:40], "image/png", 400, "the picture"),
        (b"", "image/png", 400, "the picture"),
        (picture(0, size=(10_000, 10_000)), "image/png", 400, "pixels; scale it down"),
        (b"\0" * (8 * 2**20 + 1), "image/png", 413, "larger than 8 MB"),
        (b"{", "application/json", 400, "the body is not JSON"),
        (b"[" * 20, "application/json", 400, "the body is not JSON"),
        (b"[" * 100_000, "application/json", 413, "more lists and values than 3 images (1, 2, 2) have; send several"),
        (b'{"images": [{' + b'"":{' * 50, "application/json", 413, "more lists and values"),
        (json.dumps({"images": [[0] * 50]}).encode(), "application/json", 413, "more lists and values"),
        (b"[]", "application/json", 400, 'the body must be {"images": [...]}'),
        (b'{"images": []}', "application/json", 400, "with one image at least"),
        (b'{"images": [1], "more": 2}', "application/json", 400, "nothing else"),
        (json.dumps({"images": [PIXELS] * 4}).encode(), "application/json", 413, "4 images are more than the 3"),
        (json.dumps({"images": [PIXELS, [[0.5]]]}).encode(), "application/json", 400, "image 1: has the shape (1, 1)"),
        (json.dumps({"images": [[[0.5], [0.5, 0.5]]]}).encode(), "application/json", 400, "image 0: neither nested"),
        (json.dumps({"images": [{"a": 1}]}).encode(), "application/json", 400, "image 0: neither nested"),
        (b'{"images": [[[0.5, 2], [0, 0]]]}', "application/json", 400, "image 0: values must be in [0, 1]"),
        (b'{"images": [[[NaN, 0], [0, 0]]]}', "application/json", 400, "image 0: values must be in [0, 1]"),
        (b'{"images": [[[null, 0], [0, 0]]]}', "application/json", 400, "image 0: values must be in [0, 1]"),
        (b'{"images": [[[1e999, 0], [0, 0]]]}', "application/json", 400, "image 0: values must be in [0, 1]"),
        (b'{"images": [[[1e999, 0], [0, 1' + b"0" * 400 + b"]]]}", "application/json", 400, "image 0: neither nested"),
        (b'{"images": [[["0.5", "0"], ["0", "0"]]]}', "application/json", 400, "image 0: neither nested"),
        (b'{"images": [[[true, false], [true, true]]]}', "application/json", 400, "image 0: neither nested"),
        (b'{"images": ["!"]}', "application/json", 400, "image 0: not a picture in base64"),
        (b'{"images": ["AAAA"]}', "application/json", 400, "image 0: the picture is not a PNG or JPEG"),
    ],
    ids=lambda value: "body" if isinstance(value, bytes) else None,
)
def test_what_cannot_be_used_is_refused_with_one_clear_sentence(
    client: TestClient, body: bytes, kind: str | None, status: int, message: str
) -> None:
    found = post(client, body, kind)
    assert found.status_code == status
    assert found.json().keys() == {"error"}
    assert message in found.json()["error"]
    assert "\n" not in found.json()["error"]


def test_a_body_nested_too_deeply_to_be_parsed_is_not_json() -> None:
    with pytest.raises(RefusedError, match="the body is not JSON"):
        next(reading.images_of(b"[" * 100_000, "application/json", (1, 28, 28), 32))


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 1), (1, 7, 1), (2, 3, 4)])
def test_as_many_images_as_may_be_are_read(shape: tuple[int, int, int]) -> None:
    images = torch.rand(5, *shape)
    body = json.dumps({"images": images.tolist()}).encode()
    found = torch.stack([*reading.images_of(body, "application/json", shape, 5)])
    torch.testing.assert_close(found, images)


def test_between_its_pictures_a_request_holds_no_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """As lists, the numbers of these images take 800 kB."""
    slow_pictures(monkeypatch, 0.0)
    entries = ["AAAA", *torch.rand(32, 1, 28, 28, dtype=torch.float64).tolist()]
    body = json.dumps({"images": entries}).encode()
    tracemalloc.start()
    images = reading.images_of(body, "application/json", (1, 28, 28), 33)
    next(images)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200_000
    assert len([*images]) == 32


def test_bodies_without_room_are_told_when_to_come_back(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.web.body.ROOM", 10)
    client = client_of(application(echo))
    for _ in range(2):
        found = post(client, picture(0), "image/png")
        assert (found.status_code, found.headers["retry-after"]) == (503, "30")
        assert "too many large requests" in found.json()["error"]
    assert post(client, b"short", "image/png").status_code == 400


def test_a_full_queue_is_told_at_once_with_when_to_come_back(echo: Echo) -> None:
    found = post(client_of(application(echo, queue=0)), picture(0), "image/png")
    assert found.status_code == 503
    assert int(found.headers["retry-after"]) >= 1
    assert "too many requests" in found.json()["error"]


@pytest.mark.parametrize("kind", [ValueError, ModelError, RuntimeError, TimeoutError])
def test_a_defence_that_fails_is_a_500_that_tells_nothing_of_it(echo: Echo, kind: type[Exception]) -> None:
    def fail(images: Images) -> list[Answer]:
        raise kind("in /home/me")

    metrics = Metrics()
    app = Starlette(routes=Service(echo, Batcher(fail), metrics, 10.0).routes(), exception_handlers=HANDLERS)
    found = TestClient(app, raise_server_exceptions=False).post("/predict", json={"images": [PIXELS]})
    assert found.status_code == 500
    assert found.json() == {"error": "this failed here, not by what was asked; the log of the server says why"}
    with pytest.raises(FaultError) as logged:
        TestClient(app).post("/predict", json={"images": [PIXELS]})
    assert str(logged.value.__cause__) == "in /home/me"


def test_no_answer_in_time_is_a_504(echo: Echo) -> None:
    found = post(client_of(application(echo, patience=0.0)), picture(0), "image/png")
    assert found.status_code == 504
    assert "not answered within" in found.json()["error"]


def slow_pictures(monkeypatch: pytest.MonkeyPatch, seconds: float) -> list[int]:
    """Make pictures take so long to decode; the lengths of those that were begun."""
    begun: list[int] = []

    def decode(body: bytes, shape: tuple[int, ...], digit: bool) -> torch.Tensor:
        begun.append(len(body))
        time.sleep(seconds)
        return torch.zeros(shape)

    monkeypatch.setattr(reading, "picture", decode)
    return begun


def test_pictures_that_take_long_to_decode_are_given_up_in_time(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = slow_pictures(monkeypatch, 0.1)
    found = client_of(application(echo, patience=0.15)).post("/predict", json={"images": ["AAAA"] * 8})
    assert found.status_code == 504
    assert len(begun) <= 2


def test_pictures_of_one_request_let_others_in_between(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    slow_pictures(monkeypatch, 0.05)
    service = Service(echo, Batcher(echo), Metrics(), patience=10.0)

    async def story() -> list[str]:
        done: list[str] = []

        async def ask(name: str, entries: list[str]) -> None:
            await service.decoded("application/json", json.dumps({"images": entries}).encode())
            done.append(name)

        await asyncio.gather(ask("many", ["AAAA"] * 6), ask("one", ["AAAA"]))
        return done

    assert asyncio.run(story()) == ["one", "many"]


def test_who_leaves_while_pictures_are_decoded_is_dropped(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = slow_pictures(monkeypatch, 0.05)
    body = json.dumps({"images": ["AAAA"] * 8}).encode()
    messages = [{"type": "http.request", "body": body, "more_body": False}, {"type": "http.disconnect"}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        raise AssertionError(message)

    headers = [(b"host", b"carso"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": headers, "query_string": b""}
    asyncio.run(application(echo)(scope, receive, send))
    assert len(begun) <= 1


def test_other_ways_and_methods_are_refused_in_json(client: TestClient) -> None:
    assert client.get("/predict").status_code == 405
    assert client.get("/nothing").status_code == 404
    assert client.get("/nothing").json()["error"]
    assert client.post("/predict", headers={"origin": "https://evil.example"}).status_code == 403


def test_a_service_of_loopback_answers_under_its_own_names_only(echo: Echo) -> None:
    client = client_of(application(echo, hosts=["127.0.0.1"]))
    rebound = {"host": "evil.example", "origin": "http://evil.example"}
    assert client.post("/predict", json={"images": [PIXELS]}, headers=rebound).status_code == 403
    assert client.post("/predict", json={"images": [PIXELS]}, headers={"host": "localhost:8000"}).status_code == 200
    counted = client.get("/metrics", headers={"host": "localhost"}).text.splitlines()
    assert {'carso_requests_total{status="403"} 1', 'carso_requests_total{status="200"} 1'} <= {*counted}


def test_health_says_what_is_served(client: TestClient) -> None:
    found = client.get("/health").json()
    expected = {"status": "ok", "defence": "echo", "engine": "none", "shape": [1, 2, 2], "classes": list(NAMES)}
    assert expected.items() <= found.items()
    assert (found["samples"], found["batch"]) == (10, 3)


def test_metrics_count_what_was_done(client: TestClient) -> None:
    client.post("/predict", json={"images": [PIXELS, PIXELS]})
    post(client, b"", "image/png")
    found = client.get("/metrics")
    assert found.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = found.text.splitlines()
    for line in (
        'carso_requests_total{status="200"} 1',
        'carso_requests_total{status="400"} 1',
        "carso_images_total 2",
        "carso_disagreements_total 2",
        "carso_queue 0",
    ):
        assert line in lines
