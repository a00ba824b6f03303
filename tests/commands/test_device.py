"""`--device`: where the models of a verb are, and the images that they are shown."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import carso
from carso import audit as audits
from carso import evaluation
from carso.commands import attack, cli
from carso.commands.shared import calibrated, moved
from carso.errors import CarsoError
from carso.evaluation import prediction, single
from carso.evaluation.models import device_of
from carso.nn import MLP
from carso.training import device

CPU, META = torch.device("cpu"), torch.device("meta")


class CaughtError(Exception):
    """The work that a verb would do."""


@pytest.fixture
def work() -> Mock:
    """In place of what computes: it is told what it would work on, and ends there."""
    return Mock(side_effect=CaughtError)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every device is torch's `meta`; the names by which devices were asked for."""
    asked: list[str] = []
    monkeypatch.setattr(device, "choose_device", lambda name: asked.append(name) or META)
    return asked


def told(*arguments: str) -> None:
    answer = CliRunner().invoke(cli.app, arguments)
    assert isinstance(answer.exception, CaughtError), (answer.output, answer.exception)


def test_an_audit_moves_the_target_and_every_other_classifier(
    work: Mock, elsewhere: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "audit", work)
    told("audit", "mnist", "--device", "cuda", "--out", str(tmp_path))
    transfers = work.call_args.kwargs["transfer"]
    assert transfers
    assert {device_of(model) for model in (work.call_args.args[0], *transfers.values())} == {META}
    assert set(elsewhere) == {"cuda"}


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize(("target", "there"), [("models_on_devices:function", CPU), ("mnist", META)])
def test_transfers_go_where_the_target_is_and_functions_stay(
    target: str, there: torch.device, work: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    function = len
    monkeypatch.setitem(sys.modules, "models_on_devices", SimpleNamespace(function=lambda: function))
    monkeypatch.setattr(audits, "audit", work)
    asked = "auto" if there is CPU else "cuda"
    told("audit", target, "--device", asked, "--transfer", "models_on_devices:function", "--out", str(tmp_path))
    others = work.call_args.kwargs["transfer"]
    assert others.pop("models_on_devices.function") is function
    assert {device_of(model) for model in others.values()} == {there}


@pytest.mark.parametrize("target", ["mnist", "mnist/classifier"])
def test_an_evaluation_moves_every_column(
    target: str, work: Mock, elsewhere: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation, "evaluate", work)
    told("evaluate", target, "--out", str(tmp_path))
    columns = work.call_args.args[0]
    assert len(columns) == (3 if target == "mnist" else 1)
    assert {device_of(model) for model in columns.values()} == {META}
    assert set(elsewhere) == {"auto"}


@pytest.mark.usefixtures("elsewhere")
def test_an_attack_and_a_prediction_move_the_defence(work: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "run", work)
    monkeypatch.setattr(prediction, "predict", work)
    for verb in (("attack", "mnist"), ("predict", "some.png")):
        told(*verb)
        assert device_of(work.call_args.args[0]) == META


@pytest.mark.parametrize("verb", [("audit", "mnist"), ("evaluate", "mnist"), ("attack", "mnist"), ("predict", "x.png")])
@pytest.mark.parametrize(
    ("name", "message"), [("tpu", "device must be auto, cpu or cuda, not 'tpu'"), ("cuda", "no CUDA device")]
)
def test_a_device_that_is_not_there_is_refused(
    verb: tuple[str, str], name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    answer = CliRunner().invoke(cli.app, [*verb, "--device", name])
    assert isinstance(answer.exception, CarsoError)
    assert message in str(answer.exception)


def test_a_function_is_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    network = MLP((1, 4, 4), (8,))
    assert moved(network, "auto") is network
    assert device_of(network) == CPU
    assert moved(len, "auto") is len
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(CarsoError, match="--device cuda is for a module"):
        moved(len, "cuda")


def test_held_out_images_go_where_the_defence_is(work: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    defence, test = carso.load("mnist"), carso.data.load("mnist", "test")[:20]
    defence.calibration = None
    monkeypatch.setattr(evaluation.models, "device_of", lambda model: META)
    monkeypatch.setattr(carso.CARSO, "calibrate", work)
    with pytest.raises(CaughtError):
        calibrated(defence, lambda: test, 0.1)
    assert work.call_args.args[0].device == META


def test_pictures_are_predicted_where_the_defence_is(
    work: Mock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    defence = carso.load("mnist")
    monkeypatch.setattr(prediction, "device_of", lambda model: META)
    monkeypatch.setattr(prediction, "say_if_long", Mock())
    monkeypatch.setattr(carso.CARSO, "elect", work)
    with pytest.raises(CaughtError):
        prediction.predict(defence, [tmp_path / "black.png"])
    assert work.call_args.args[0].device == META


def test_images_are_attacked_and_answered_where_the_defence_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.device] = []

    def crafted(self: Any, row: Any, model: Any, images: torch.Tensor, labels: torch.Tensor, start: int) -> Any:
        seen.extend((images.device, labels.device))
        return torch.ones(images.shape)

    def answered(model: Any, images: torch.Tensor, generator: Any) -> Any:
        seen.append(images.device)
        return evaluation.models.Outcome(predicted=torch.zeros(len(images)).int())

    monkeypatch.setattr(single, "device_of", lambda model: META)
    monkeypatch.setattr(single.AdversarialExamples, "__call__", crafted)
    monkeypatch.setattr(single, "answer", answered)
    defence, test = carso.load("mnist"), carso.data.load("mnist", "test")[:3]
    attacked = single.attacked_images(defence, test, attack.row_of("fgsm", 0.1, "Linf", "classifier"), 0)
    assert attacked.device == CPU
    assert set(single.rates(defence, attacked, test.required_labels, 0)) == {"classifier", "defence"}
    assert seen == [META] * 4
