"""Damage the inputs of every reader, many times, and keep how many were read and how many refused.

    python benchmarks/runs/fuzz.py [--inputs 500]

It runs tests/fuzz, which fail on any other outcome, and writes benchmarks/results/reliability/fuzz.json.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from carso.evaluation.environment import environment

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "reliability"
LOG = "CARSO_FUZZ_LOG"


def log(reader: str, read: int, refused: int) -> None:
    """Add a line to the log that the caller of the tests asked for, if any."""
    if path := os.environ.get(LOG):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"reader": reader, "read": read, "refused": refused}) + "\n")


def main(inputs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        settings = {"CARSO_FUZZ": str(inputs), LOG: str(path)}
        command = [sys.executable, "-m", "pytest", "-n0", "-q", "tests/fuzz"]
        subprocess.run(command, cwd=ROOT, env=os.environ | settings, check=True)
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = {"inputs": inputs, "environment": environment().model_dump(), "readers": lines}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "fuzz.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=500, help="per reader")
    main(parser.parse_args().inputs)
