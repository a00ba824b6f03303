"""`carso evaluate`: what is evaluated, and what stands beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carso import evaluation
from carso.commands.evaluate import run
from carso.commands.shared import subject_of
from carso.evaluation import Settings
from carso.report import publish


@pytest.mark.parametrize(
    ("name", "published"), [("mnist-robust-cnn/classifier", False), ("mnist-thesis/classifier", True), ("mnist", True)]
)
def test_the_thesiss_figures_stand_beside_its_own_network_alone(
    name: str, published: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[dict[str, Any]] = []
    monkeypatch.setattr(evaluation, "evaluate", lambda models, test, **told: evaluated.append(told))
    monkeypatch.setattr(publish, "publish", lambda records, out: out)
    run(subject_of(name, None, None, "cpu", "mnist", {}), tmp_path, "test", Settings(n=5))
    (told,) = evaluated
    assert "pgd" in {row.attack for row in told["rows"]}
    assert any(row.thesis for row in told["rows"]) == published
