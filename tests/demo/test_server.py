from __future__ import annotations

import asyncio
import io
import json

import pytest
import torch
from PIL import Image

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

from starlette.testclient import TestClient

from carso.demo.server import RefusedError, Turn, application, decode, encode
from carso.demo.studio import Studio


@pytest.fixture(scope="module")
def client(studio: Studio) -> TestClient:
    return TestClient(application(studio))


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


def test_images_travel_without_rounding(studio: Studio) -> None:
    image = torch.rand(1, 1, 28, 28)
    assert torch.equal(decode(encode(image), studio), image)


def test_the_page_and_its_files_are_served_and_say_what_may_run(client: TestClient) -> None:
    for path, kind in (("/", "text/html"), ("/style.css", "text/css"), ("/script.js", "text/javascript")):
        answer = client.get(path)
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


def test_the_vote_comes_line_by_line(client: TestClient) -> None:
    image = client.get("/api/pick?index=0").json()["image"]
    lines = [json.loads(line) for line in client.post("/api/vote", json={"image": image}).text.splitlines()]
    assert [line["samples"] for line in lines][:4] == [5, 10, 15, 20]
    assert lines[-1]["decided"]
    assert len(lines[0]["candidates"]) == 5


@pytest.mark.parametrize(
    "body",
    [picture(), picture((600, 400), "JPEG"), picture((28, 28)), picture(mode="RGB")],
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
    ],
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


def test_the_queue_is_bounded() -> None:
    async def crowd() -> list[object]:
        turn, release = Turn(waiting=2), asyncio.Event()

        async def visit() -> str:
            async with turn():
                await release.wait()
            return "served"

        visits = [asyncio.create_task(visit()) for _ in range(5)]
        await asyncio.sleep(0)
        release.set()
        return await asyncio.gather(*visits, return_exceptions=True)

    found = asyncio.run(crowd())
    assert found[:3] == ["served"] * 3
    assert all(isinstance(each, RefusedError) and each.status == 503 for each in found[3:])
