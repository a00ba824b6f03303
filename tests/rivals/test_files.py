from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.rivals.conftest import CLASSES, SHAPE, bars
from tests.rivals.test_kinds import KINDS, network, spec
from torch import nn

from carso.audit import load_target
from carso.errors import ModelError, WeightsError
from carso.rivals import files, load
from carso.rivals.kinds import build
from carso.storage.tensors import read_tensors, write_tensors


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_back_answers_as_what_was_saved(kind: str, tmp_path: Path) -> None:
    classifier = network()
    rival = build(spec(kind), classifier, SHAPE, CLASSES).eval()
    files.save(rival, spec(kind), classifier, tmp_path, 2.5)
    images, _ = bars(6, 0)
    answers = []
    for each in (rival, load(tmp_path), load_target(str(tmp_path))):
        torch.manual_seed(3)
        answers.append(each(images))
    assert torch.equal(answers[0], answers[1])
    assert torch.equal(answers[0], answers[2])
    assert files.read(tmp_path)[1].seconds == 2.5


def test_a_network_of_a_users_own_is_refused(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    with pytest.raises(ModelError, match="a network of the library's own, not a Sequential"):
        files.save(own, spec("classifier"), own, tmp_path)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    classifier = network()
    files.save(build(spec("puvae"), classifier, SHAPE, CLASSES), spec("puvae"), classifier, tmp_path)
    return tmp_path


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no file .*rival\.safetensors"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("rival", {"kind": "magnet", "options": {}}, "no rival 'magnet'"),
        ("rival", {"kind": "puvae", "options": {"latent": 5, "hidden": [12]}}, "does not fit its own description"),
        (
            "rival",
            {"kind": "puvae", "options": {"latent": 65536, "hidden": [65536]}},
            "does not fit its own description",
        ),
        ("rival", {"kind": "puvae", "options": {"latent": -1}}, "is damaged"),
        ("rival", {"kind": "puvae", "options": {"depth": 1}}, "cannot be built"),
        ("architecture", "vit", "is damaged"),
        ("seconds", -1.0, "is damaged: seconds"),
    ],
)
def test_a_header_that_lies_is_one_line(saved: Path, part: str, value: object, message: str) -> None:
    path = saved / files.FILE
    tensors, description = read_tensors(path, "rival")
    write_tensors(path, tensors, description | {part: value})
    with pytest.raises(WeightsError, match=message):
        load(saved)


def test_weights_that_are_not_finite_are_refused(saved: Path) -> None:
    path = saved / files.FILE
    tensors, description = read_tensors(path, "rival")
    next(iter(tensors.values())).fill_(torch.nan)
    write_tensors(path, tensors, description)
    with pytest.raises(WeightsError, match="NaN or infinity"):
        load(saved)
