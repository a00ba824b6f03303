"""The bench for GPUs, tried on the processor: every work is measured, and what fails or has no time is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from benchmarks.runs.gpu import KINDS, SMALL, Bench, main
from benchmarks.speed import peers
from torch import nn

from carso.errors import ModelError


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


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        (torch.OutOfMemoryError("out of memory\ntried to allocate"), "OutOfMemoryError: out of memory"),
        (ModelError("fast=True needs a chain"), "ModelError: fast=True needs a chain"),
        (ImportError(), "ImportError"),
    ],
)
def test_a_work_that_fails_leaves_its_error_and_the_others_are_done(
    error: Exception, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing() -> dict[str, object]:
        raise error

    monkeypatch.setattr(Bench, "works", lambda _: iter({"one": failing, "other": dict}.items()))
    main(bench(), 5, tmp_path / "gpu.json")
    assert json.loads((tmp_path / "gpu.json").read_text())["works"] == {"one": {"error": kept}, "other": {}}


def test_peers_that_are_not_asked_for_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    sought: list[str] = []
    monkeypatch.setattr(peers, "find_spec", sought.append)
    given = (nn.Identity(), torch.rand(1, 3, 4, 4), torch.zeros(1).long(), 0.1, 0.1, 2)
    assert not list(peers.pgd(*given, only=("torchattacks",)))
    assert sought == ["torchattacks"]
    assert not list(peers.pgd(*given))
    assert sought[1:] == ["torchattacks", "foolbox", "art"]
