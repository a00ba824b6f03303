import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from benchmarks.runs.kills import small_mnist

ROOT = Path(__file__).parents[2]
Launch = Callable[[list[tuple[int, list[str]]]], list[list[int]]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny digits in `data`, in which commands run."""
    folder = tmp_path_factory.mktemp("processes")
    small_mnist(folder / "data")
    return folder


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def launch(place: Path, environment: dict[str, str]) -> Launch:
    """Run commands with so many processes each, and return their exit statuses; P-R.log is what process R of P said."""

    def run(commands: list[tuple[int, list[str]]]) -> list[list[int]]:
        script = [sys.executable, str(Path(__file__).with_name("launch.py")), json.dumps(commands)]
        done = subprocess.run(script, cwd=place, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        found: list[list[int]] = json.loads(done.stdout)
        return found

    return run
