"""The bench for GPUs, tried on the processor: every work is measured, and what fails or has no time is named."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from benchmarks.runs.gpu import KINDS, SMALL, Bench, main


def bench() -> Bench:
    return Bench(torch.device("cpu"), SMALL, images=4, rounds=1)


def test_every_work_is_measured(tmp_path: Path) -> None:
    main(bench(), 5, tmp_path / "gpu.json")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert len(found["works"]) == 3 + len(KINDS)
    assert not found["left_out"]
    for name, each in found["works"].items():
        assert "error" not in each, name
        assert each["seconds"], name


def test_what_the_time_does_not_allow_is_named(tmp_path: Path) -> None:
    main(bench(), 0, tmp_path / "gpu.json")
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["left_out"] == [name for name, _ in bench().works()]


def test_a_work_that_fails_leaves_its_error() -> None:
    def failing() -> dict[str, object]:
        raise torch.OutOfMemoryError("out of memory\ntried to allocate")

    assert bench().measured(failing) == {"error": "out of memory"}
