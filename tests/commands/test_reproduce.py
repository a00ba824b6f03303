"""`carso reproduce`: what is read, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from carso import data, evaluation
from carso.commands.reproduce import check_test, table
from carso.commands.shared import experiment_of
from carso.report import publish


def test_the_test_images_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load, loaded, evaluated = data.load, [], []

    def counted(name: str, split: str, **options: Any) -> data.Dataset:
        loaded.append(split)
        return load(name, split, **options)

    monkeypatch.setattr(data, "load", counted)
    monkeypatch.setattr(evaluation, "evaluate", lambda models, test, **_: evaluated.append(test))
    monkeypatch.setattr(publish, "publish", lambda records, out: out)
    experiment = experiment_of("thesis", tmp_path, None, "cpu", None, None)
    experiment.adopt("mnist-thesis")
    check_test(experiment, 100)
    assert table(experiment, 100, "confident") == tmp_path
    assert loaded.count("test") == 1
    assert [len(test) for test in evaluated] == [10_000]
