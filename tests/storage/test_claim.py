"""A folder is held by one process, which the operating system frees however that process ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from carso.errors import RunError
from carso.storage.claim import NAME, claim

HOLD = """import sys, time
from pathlib import Path
from carso.storage.claim import claim
with claim(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""
WRITE = """import sys, time
from pathlib import Path
from carso.storage.files import write_aside
def write(aside):
    aside.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
write_aside(Path(sys.argv[1]), write)
"""


def started(code: str, path: Path) -> subprocess.Popen[str]:
    """A process that has said its first word."""
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def kill(process: subprocess.Popen[str]) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGKILL)
        process.communicate()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    process = started(HOLD, tmp_path / "run")
    yield process
    kill(process)


def test_a_second_process_is_told_who_holds_the_folder(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    held_by = (
        rf"run is in use by process {holder.pid} on {socket.gethostname()} since \d{{4}}-.*; wait for it, or choose"
    )
    for _ in range(2):
        with pytest.raises(RunError, match=held_by), claim(tmp_path / "run"):
            pytest.fail("claimed twice")


def test_the_claim_of_a_killed_process_is_gone(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    kill(holder)
    assert (tmp_path / "run" / NAME).exists()
    with claim(tmp_path / "run"):
        assert f"process {os.getpid()} " in (tmp_path / "run" / NAME).read_text()
    assert not list((tmp_path / "run").iterdir())


def test_one_process_cannot_claim_a_folder_twice(tmp_path: Path) -> None:
    with claim(tmp_path), pytest.raises(RunError, match="in use"), claim(tmp_path):
        pytest.fail("claimed twice")
    with claim(tmp_path):
        pass


def test_a_claim_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), claim(tmp_path / "new"):
        raise ValueError("mine")
    assert not (tmp_path / "new").exists()
    with claim(tmp_path / "new"):
        (tmp_path / "new" / "kept").write_text("kept")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["kept"]


@pytest.mark.parametrize("part", [".", "checkpoints", "classifier/state"])
def test_what_killed_writers_left_is_swept(part: str, tmp_path: Path) -> None:
    path = tmp_path / part / "purifier.safetensors"
    kill(started(WRITE, path))
    own = [tmp_path / name for name in (".hidden", ".purifier.safetensors", ".env.local", "x.aside")]
    for file in own:
        file.write_text("the user's")
    assert [left.read_text() for left in path.parent.glob(".purifier.safetensors.*")] == ["half"]
    with claim(tmp_path):
        assert not list(path.parent.glob(".purifier.safetensors.*"))
    assert all(file.exists() for file in own)
    assert not path.exists()


def test_what_others_may_be_writing_below_is_not_swept(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    held, far, linked = run / "choice" / "held", run.joinpath(*"abcde"), elsewhere / "state"
    for folder in (held, far, linked):
        folder.mkdir(parents=True)
        (folder / ".results.json.abcdefgh.aside").write_text("half")
    (held / NAME).write_text("process 1")
    (run / "choice" / ".results.json.abcdefgh.aside").write_text("half")
    (run / "link").symlink_to(elsewhere)
    with claim(run):
        pass
    assert {left.parent for left in tmp_path.rglob(".*.aside")} == {held, far, linked}


def test_what_a_living_process_writes_is_not_swept(holder: subprocess.Popen[str], tmp_path: Path) -> None:
    aside = tmp_path / "run" / ".results.json.abcdefgh.aside"
    aside.write_text("half")
    with pytest.raises(RunError, match="in use"), claim(tmp_path / "run"):
        pytest.fail("claimed twice")
    assert aside.exists()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RunError, match=r"cannot claim .*file"), claim(tmp_path / "file"):
        pytest.fail("claimed a file")


@pytest.mark.parametrize("name", ["x" * 300, "x" * 9000, "a\0b"])
def test_a_name_that_no_folder_can_have_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^cannot claim"), claim(tmp_path / name):
        pass


def test_whoever_waits_gets_the_folder_when_its_holder_ends(tmp_path: Path) -> None:
    holder = started(HOLD, tmp_path)
    said: list[str] = []

    def wait(who: str) -> None:
        said.append(who)
        holder.kill()
        holder.wait()

    with claim(tmp_path, wait=wait):
        assert said
        assert set(said) == {said[0]}
        assert str(holder.pid) in said[0]
    holder.communicate()
