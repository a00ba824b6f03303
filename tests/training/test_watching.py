"""A watcher is told what history keeps, sees what is recalled, and changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from carso.data import Dataset
from carso.errors import ModelError
from carso.storage import weights
from carso.training import watching
from carso.training.experiment import Experiment
from carso.training.history import read_history
from carso.training.reading import parse_recipe
from carso.training.watching import TensorBoard, Watcher, watcher_of

TEXT = """name: watched
classifier: {hidden: [12]}
adversarial: {epochs: 2, batch: 16, rate: 0.01}
purification: {epochs: 2, batch: 16, rate: 0.01}
purifier: {widths: interpolated}
samples: 10
"""


class Kept:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.losses: dict[str, float] = {}
        self.images: dict[str, Tensor] = {}

    def log(self, step: int, losses: Mapping[str, float]) -> None:
        self.losses |= {f"{name} {step}": value for name, value in losses.items()}

    def image(self, step: int, name: str, tensor: Tensor) -> None:
        self.images[f"{name} {step}"] = tensor


TRACKER = """class Tracker:
    def log(self, step, losses): ...
    def image(self, step, name, tensor): ...
"""


def carried_out(out: Path, watcher: Watcher | None) -> Experiment:
    generator = torch.Generator().manual_seed(0)
    train, held_out = (
        Dataset("noise", torch.rand(n, 1, 12, 12, generator=generator), torch.arange(n) % 3, ("a", "b", "c"))
        for n in (48, 12)
    )
    experiment = Experiment(
        parse_recipe(TEXT, "test"), out, torch.device("cpu"), sets=(train, held_out), watcher=watcher
    )
    experiment.complete()
    return experiment


def history(out: Path) -> dict[str, float]:
    return {
        f"{epoch['stage']}/{name} {int(epoch['epoch'])}": value
        for epoch in read_history(out)
        for name, value in epoch.items()
        if name not in ("stage", "epoch")
    }


def test_every_figure_of_the_history_is_told_and_pictures_of_every_epoch(tmp_path: Path) -> None:
    kept = Kept()
    experiment = carried_out(tmp_path / "watched", kept)
    assert kept.losses == history(tmp_path / "watched")
    assert {"purifier/loss 2", "adversarial training/validation_accuracy 1"} <= kept.losses.keys()
    assert kept.images.keys() == {"purifier/recalled 1", "purifier/recalled 2"}
    for picture in kept.images.values():
        assert picture.shape == (1, 12 * (1 + watching.RECALLED), 12 * watching.SHOWN)
        assert torch.equal(picture[:, :12, 12:24], experiment.validation.images[1])
        assert 0 <= picture.min() <= picture.max() <= 1
    assert not torch.equal(*kept.images.values())
    alone = carried_out(tmp_path / "alone", None)
    assert weights.digest(alone.defence()) == weights.digest(experiment.defence())


def test_tensorboard_reads_back_what_was_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    carried_out(tmp_path / "run", TensorBoard(tmp_path / "events"))
    read = EventAccumulator(str(tmp_path / "events"))
    read.Reload()
    scalars = {f"{tag} {e.step}": e.value for tag in read.Tags()["scalars"] for e in read.Scalars(tag)}
    assert scalars == pytest.approx(history(tmp_path / "run"))
    pictures = read.Images("purifier/recalled")
    assert [(e.step, e.width, e.height) for e in pictures] == [(1, 96, 48), (2, 96, 48)]


def test_a_function_names_a_tracker_and_another_name_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    assert watcher_of(None) is None
    assert isinstance(watcher_of(str(tmp_path / "events")), TensorBoard)
    monkeypatch.chdir(tmp_path)
    Path("tracker_of_this_test.py").write_text(TRACKER)
    assert type(watcher_of("tracker_of_this_test:Tracker")).__name__ == "Tracker"


def test_what_is_no_watcher_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"'builtins:dict' returned \{\}; a watcher has log"):
        watcher_of("builtins:dict")
    monkeypatch.setattr(watching, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'carso\[watch\]'$"):
        watcher_of("events")
