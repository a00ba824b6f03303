"""Only as itself and only to itself: hosts, origins, and the headers of every answer."""

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx2")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from carso.errors import CarsoError
from carso.web.guard import SAFE, Guard


async def echo(_: Request) -> Response:
    return PlainTextResponse("computed")


async def stream(_: Request) -> Response:
    return StreamingResponse(iter(["a", "b"]))


async def fail(_: Request) -> Response:
    raise RuntimeError("a bug")


@pytest.fixture(scope="module")
def client() -> TestClient:
    routes = [Route("/", echo, methods=["GET", "POST"]), Route("/stream", stream), Route("/bug", fail)]
    app = Guard(Starlette(routes=routes), ["Demo.Example", "192.0.2.7"])
    return TestClient(app, base_url="http://localhost:7860", raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:7860", 200),
        ("127.0.0.1:7860", 200),
        ("[::1]:7860", 200),
        ("[::1]", 200),
        ("demo.example", 200),
        ("192.0.2.7:80", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost@evil.example", 403),
        ("evil.demo.example", 403),
        ("192.0.2.8", 403),
        ("0.0.0.0:7860", 403),
        ("[::", 403),
        ("", 403),
    ],
)
def test_only_the_demos_own_names_are_answered(client: TestClient, host: str, status: int) -> None:
    for found in (client.get("/", headers={"host": host}), client.post("/", headers={"host": host})):
        assert found.status_code == status
        assert (found.text == "computed") == (status == 200)


@pytest.mark.parametrize(
    ("allowed", "host"),
    [
        ("carso.example:8443", "carso.example:8443"),
        ("carso.example:8443", "carso.example"),
        ("carso.example.", "carso.example"),
        ("Carso.Example", "carso.example.:80"),
        ("[fe80::1]", "[fe80::1]:8443"),
        ("[FE80::1]:80", "[fe80::1]"),
        ("fe80::1", "[fe80::1]"),
        ("::", "[::]:8000"),
    ],
)
def test_a_host_is_allowed_however_it_is_written(allowed: str, host: str) -> None:
    client = TestClient(Guard(Starlette(routes=[Route("/", echo)]), [allowed]))
    assert client.get("/", headers={"host": host}).text == "computed"
    assert client.get("/", headers={"host": "evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "host", ["", ":80", "http://carso.example", "carso.example/", "me@carso.example", "*", "a b", "[::"]
)
def test_what_no_request_comes_for_is_refused(host: str) -> None:
    with pytest.raises(CarsoError, match="no request comes for a host"):
        Guard(Starlette(), [host])


def test_a_service_answers_as_whatever_it_is_called_but_not_to_other_origins() -> None:
    app = Guard(Starlette(routes=[Route("/", echo, methods=["GET", "POST"])]), None)
    client = TestClient(app, base_url="http://carso.internal:8000")
    assert client.post("/").text == "computed"
    assert client.post("/", headers={"origin": "https://evil.example"}).status_code == 403


def test_the_refusal_says_what_to_do(client: TestClient) -> None:
    error = client.get("/", headers={"host": "evil.example"}).json()["error"]
    assert error == "nothing here answers as 'evil.example'; if it should, start carso with --allow-host NAME"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:7860"}, 200),
        ({"origin": "https://localhost:7860"}, 200),
        ({"origin": "http://localhost:7860", "sec-fetch-site": "same-origin"}, 200),
        ({"origin": "http://localhost:8000"}, 403),
        ({"origin": "http://127.0.0.1:7860"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_what_computes_is_not_for_other_origins(client: TestClient, headers: dict[str, str], status: int) -> None:
    found = client.post("/", headers=headers)
    assert found.status_code == status
    assert (found.text == "computed") == (status == 200)


def test_a_link_from_another_site_leads_to_the_page(client: TestClient) -> None:
    assert client.get("/", headers={"sec-fetch-site": "cross-site"}).text == "computed"


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/", {}, 200),
        ("HEAD", "/", {}, 200),
        ("GET", "/stream", {}, 200),
        ("GET", "/nothing", {}, 404),
        ("PUT", "/", {}, 405),
        ("GET", "/bug", {}, 500),
        ("GET", "/", {"host": "evil.example"}, 403),
        ("POST", "/", {"origin": "null"}, 403),
    ],
)
def test_every_answer_has_the_same_headers(
    client: TestClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    found = client.request(method, path, headers=headers)
    assert found.status_code == status
    assert {name: found.headers[name] for name in SAFE} == SAFE
