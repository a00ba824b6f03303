"""The demo as a server: who keeps it waiting is let go, nobody is locked out, and it ends when it is told to."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("uvicorn")

from carso.demo.server import application
from carso.demo.studio import Studio
from carso.web import body, serving
from carso.web.guard import SAFE

HALF_HEAD = b"GET / HTTP/1.1\r\nHost: local"
HALF_BODY = b"POST /api/picture HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"


@pytest.fixture
def port(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of a demo of little patience."""
    monkeypatch.setattr(serving, "IDLE", 1.0)
    monkeypatch.setattr(serving, "STALL", 1.0)
    monkeypatch.setattr(body, "PATIENCE", 1.0)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = serving.server_of(application(studio))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def answer(port: int, method: str = "GET", path: str = "/", body: bytes | None = None) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        found = connection.getresponse()
        return found.status, found.read()


def read_to_the_end(client: socket.socket) -> bytes:
    """What the server says until it closes."""
    client.settimeout(20)
    told = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65536):
            told += chunk
    return told


def closed_after(client: socket.socket) -> float:
    """Seconds until the server closes."""
    started = time.monotonic()
    read_to_the_end(client)
    return time.monotonic() - started


@pytest.mark.parametrize("sent", [b"", HALF_HEAD], ids=["nothing", "half a head"])
def test_a_connection_that_asks_nothing_is_closed(port: int, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(sent)
        assert 0.5 < closed_after(client) < 5


def test_a_head_that_trickles_is_closed(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        started = time.monotonic()
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            for byte in HALF_HEAD * 4:
                client.sendall(bytes([byte]))
                time.sleep(0.1)
        assert time.monotonic() - started < 6


def test_a_connection_that_asks_again_and_again_stays(port: int) -> None:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.connect()
        first = connection.sock
        for _ in range(8):
            connection.request("GET", "/api/place")
            assert json.loads(connection.getresponse().read()) == {"place": 0, "waiting": 0}
            time.sleep(0.4)
        assert connection.sock is first


def test_a_body_that_does_not_arrive_is_refused_and_its_place_is_free(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(HALF_BODY)
        client.settimeout(20)
        told = client.recv(65536)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert closed_after(client) < 8


def test_idle_connections_lock_nobody_out(port: int) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert answer(port)[0] == 200


def test_a_further_connection_takes_the_place_of_the_one_that_is_idle_longest(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "MOST", 20)
    monkeypatch.setattr(serving, "IDLE", 60.0)
    monkeypatch.setattr(body, "PATIENCE", 60.0)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port)))]
        clients[0].sendall(HALF_BODY)
        time.sleep(0.5)
        clients += [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(40)]
        time.sleep(0.5)
        assert [is_open(client) for client in clients] == [True] + [False] * 21 + [True] * 19
        assert answer(port)[0] == 200


def is_open(client: socket.socket) -> bool:
    client.settimeout(0.01)
    try:
        return client.recv(1) != b""
    except TimeoutError:
        return True
    except ConnectionResetError:
        return False


def test_what_is_not_http_is_refused_with_the_headers_of_every_answer(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"\x16\x03\x01 no HTTP\r\n\r\n")
        told = client.recv(65536).decode()
    head, _, body = told.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 400 ")
    assert {f"{name}: {value}" for name, value in SAFE.items()} <= set(head.split("\r\n"))
    assert json.loads(body)["error"]


def test_a_reader_who_stalls_is_let_go(port: int) -> None:
    image = json.loads(answer(port, path="/api/pick")[1])["image"]
    body = json.dumps({"image": image, "whole": True}).encode()
    request = b"POST /api/vote HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        client.sendall(request + body)
        time.sleep(3)
        told = read_to_the_end(client)
    assert told.startswith(b"HTTP/1.1 200 ")
    assert b'"decided": true' not in told
    assert b'"decided": true' in answer(port, "POST", "/api/vote", body)[1]


@pytest.fixture(scope="module")
def process() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`carso demo`, started as a user does, and its port."""
    command = [sys.executable, "-m", "carso", "demo", "mnist-thesis", "--no-open", "--port", "0"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert started.stderr is not None
    address = started.stderr.readline().split(" at ")[1].split(";")[0]
    port = int(address.rstrip("/").rpartition(":")[2])
    while True:
        with contextlib.suppress(OSError):
            answer(port)
            break
    yield started, port
    if started.poll() is None:
        started.kill()
    started.wait()
    started.stderr.close()


def memory(pid: int) -> int:
    """The most MiB that a process has held."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("there is no /proc here")
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) // 1024


@pytest.mark.slow
def test_eight_large_pictures_at_once_take_the_memory_of_one(process: tuple[subprocess.Popen[str], int]) -> None:
    started, port = process
    canvas = Image.new("RGBA", (8000, 8000))
    canvas.paste((0, 0, 0, 255), (3500, 2000, 4500, 6000))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    before = memory(started.pid)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: answer(port, "POST", "/api/picture", buffer.getvalue()), range(8)))
    assert [status for status, _ in found] == [200] * 8
    decoded = 4 * 8000 * 8000 // 2**20
    assert decoded / 2 < memory(started.pid) - before < 3 * decoded


def test_it_ends_when_it_is_told_to_though_a_request_is_half_sent(process: tuple[subprocess.Popen[str], int]) -> None:
    started, port = process
    with socket.create_connection(("127.0.0.1", port)) as half, socket.create_connection(("127.0.0.1", port)) as idle:
        half.sendall(HALF_BODY)
        idle.sendall(HALF_HEAD)
        time.sleep(0.5)
        asked = time.monotonic()
        started.send_signal(signal.SIGTERM)
        started.wait(20)
        assert time.monotonic() - asked < serving.GRACE + 2
    assert started.stderr is not None
    assert started.stderr.read() == ""
