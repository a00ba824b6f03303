"""One of four processes is killed: torchrun starts all of them again, and they end with the same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """name: lost
data: data
classifier: {hidden: [20, 10]}
adversarial: {epochs: 16, batch: 40, batches: 8, rate: 0.02, attacks: [{attack: pgd, eps: 0.1, steps: 5}]}
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
PROGRESS = "lost/checkpoints/adversarial-training.safetensors"


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for the processes in /proc")
def test_four_processes_survive_the_loss_of_one(place: Path, environment: dict[str, str]) -> None:
    (place / "lost.yaml").write_text(RECIPE)

    def begin(out: str, *options: str) -> "subprocess.Popen[bytes]":
        command = [*TORCHRUN, *options, "-m", "carso", "train", "classifier", "lost.yaml", "--out", out]
        with (place / f"{out}.log").open("wb") as log:
            return subprocess.Popen(command, cwd=place, env=environment, stdout=log, stderr=log)

    assert begin("whole").wait(600) == 0
    broken = begin("lost", "--max-restarts", "1")
    while not (place / PROGRESS).exists():
        assert broken.poll() is None, (place / "lost.log").read_text()
        time.sleep(0.01)
    killed = children(broken.pid)[2]
    os.kill(killed, signal.SIGKILL)
    assert broken.wait(600) == 0, (place / "lost.log").read_text()
    assert f"(pid: {killed})" in (place / "lost.log").read_text()
    for file in ("classifier.safetensors", "history.json"):
        assert (place / "lost" / file).read_bytes() == (place / "whole" / file).read_bytes()
    assert not list((place / "lost").glob(".*"))
