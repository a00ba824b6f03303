"""`carso reproduce`: what is read, and how often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import carso
from carso import data, evaluation
from carso.commands import cli
from carso.commands.reproduce import check_test, table
from carso.commands.shared import experiment_of
from carso.report import publish
from carso.storage import weights


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


@pytest.mark.whole
def test_the_shipped_weights_of_a_recipe_are_evaluated_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated: list[Any] = []
    monkeypatch.setattr("carso.training.experiment.fit", lambda *_: pytest.fail("training began"))
    monkeypatch.setattr(evaluation, "evaluate", lambda models, test, **told: evaluated.append((models, told)))
    monkeypatch.setattr(publish, "publish", lambda records, out: out)
    told = ["reproduce", "thesis", "--pretrained", "--test-images", "5", "--out", str(tmp_path / "run")]
    answer = CliRunner().invoke(cli.app, told)
    assert answer.exit_code == 0, (answer.output, answer.exception)
    ((models, settings),) = evaluated
    assert weights.digest(models["carso"]) == weights.digest(carso.load("mnist-thesis"))
    assert settings["settings"].n == 5
    assert weights.digest(carso.load(tmp_path / "run")) == weights.digest(carso.load("mnist-thesis"))
