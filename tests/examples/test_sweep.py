"""The sweep of docs/several-machines.md on this machine's own queue."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("submitit")

ROOT = Path(__file__).parents[2]
SWEEP = ROOT / "examples" / "sweep.py"
EVERY = ["--", "--effort", "quick", "--images", "4", "--eps", "0.1"]


def run(place: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SWEEP), *arguments]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=600)


def test_what_is_behind_the_dashes_goes_to_every_audit() -> None:
    found = importlib.util.spec_from_file_location("sweep", SWEEP)
    assert found is not None
    assert found.loader is not None
    sweep = importlib.util.module_from_spec(found)
    found.loader.exec_module(sweep)
    given = sweep.arguments(["a", "b", "--seeds", "1", "2", *EVERY])
    assert (given.models, given.seeds, given.cluster, given.options) == (["a", "b"], [1, 2], "local", EVERY[1:])


@pytest.mark.slow
def test_every_model_is_audited_from_every_seed(tmp_path: Path) -> None:
    done = run(tmp_path, "mnist/classifier", "--seeds", "0", "1", *EVERY)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["model"], row["seed"]) for row in rows] == [("mnist/classifier", 0), ("mnist/classifier", 1)]
    for row in rows:
        audit = json.loads((tmp_path / f"out/sweep/mnist-classifier-{row['seed']}/audit.json").read_text())
        assert audit["seed"] == row["seed"]
        assert row["worst_case"] == {"Linf 0.1": audit["budgets"][0]["worst_case"]["accuracy"]}


@pytest.mark.slow
def test_a_model_that_is_not_there_fails_alone(tmp_path: Path) -> None:
    done = run(tmp_path, "nothing-such", "mnist/classifier", *EVERY)
    assert done.returncode == 1
    failed, audited = map(json.loads, done.stdout.splitlines())
    assert "nothing-such" in Path(failed["failed"]).read_text()
    assert audited["model"] == "mnist/classifier"
