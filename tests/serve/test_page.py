"""The commands of docs/serving.md run as they stand there, and the Dockerfile says what the command line knows."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from carso.commands import cli

pytest.importorskip("uvicorn")

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
BLOCKS = [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)]


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return str(listener.getsockname()[1])


def started(line: str) -> list[str]:
    return [sys.executable, "-m", "carso", *shlex.split(line)[1:]]


@contextlib.contextmanager
def serving(command: list[str], folder: Path) -> Iterator[None]:
    """A service that has said where it answers, and ends when it is told to."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    with process:
        try:
            assert "answers at http://127.0.0.1:" in process.stderr.readline()
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
        assert process.stderr.read() == ""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a seven of the test set as digit.png, made as the page says."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("base64")), reason="there is no curl here")
def test_the_first_commands_answer(folder: Path) -> None:
    serve, *asks = BLOCKS[0]
    port = free_port()
    with serving(started(serve.replace("8000", port)), folder):
        found = [asked(line.replace("8000", port), folder) for line in asks]
    first, second, health = map(json.loads, found[:3])
    for answer in (first, second):
        assert answer["predictions"][0]["name"] == "7"
    assert first["predictions"][0].keys() == documented()["predictions"][0].keys()
    assert health["status"] == "ok"
    assert 'carso_requests_total{status="200"} 2' in found[3]


def asked(line: str, folder: Path) -> str:
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=True, timeout=60).stdout


def documented() -> dict[str, list[dict[str, object]]]:
    (text,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    found: dict[str, list[dict[str, object]]] = json.loads(text)
    return found


@pytest.mark.slow
def test_the_onnx_file_is_served(folder: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    httpx2 = pytest.importorskip("httpx2")
    export, serve = BLOCKS[1]
    subprocess.run(started(export), cwd=folder, check=True, capture_output=True, timeout=200)
    port = free_port()
    with serving(started(serve.replace("8000", port)), folder):
        body, headers = (folder / "digit.png").read_bytes(), {"Content-Type": "image/png"}
        address = f"http://127.0.0.1:{port}/predict"
        (found,) = httpx2.post(address, content=body, headers=headers, trust_env=False).json()["predictions"]
    assert (found["name"], found["samples"]) == ("7", 40)
    assert found["disagreement"] is found["classifier"] is None


def test_links_lead_somewhere_and_every_option_of_the_page_is_one() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (ROOT / "docs" / target).exists(), target
    known = CliRunner().invoke(cli.app, ["serve", "--help"], terminal_width=200).output
    for option in ("--onnx", "--factory", "--samples", "--host", "--port", "--batch", "--queue", "--timeout"):
        assert option in known


def test_the_dockerfile_serves_as_a_user_without_rights_from_files_that_are_there() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    words = [json.loads(found) for found in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", text, re.MULTILINE)]
    assert words == [["carso", "serve"], ["mnist", "--host", "0.0.0.0"]]
    assert re.findall(r"^USER (\w+)$", text, re.MULTILINE) == ["carso"]
    assert text.index("useradd") < text.index("USER carso") < text.index("ENTRYPOINT")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored
    assert all(":latest" not in line and ":" in line for line in re.findall(r"^FROM (\S+)", text, re.MULTILINE))
