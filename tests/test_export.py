from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import carso
from carso.errors import ModelError
from carso.export import export
from carso.nn import MLP
from carso.purifier import Purifier

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def small(classifier: nn.Module, neurons: int) -> carso.CARSO:
    torch.manual_seed(0)
    return carso.CARSO(classifier, Purifier((1, 8, 8), neurons, latent=4), samples=40)


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 5)).eval()


def run(path: Path, images: torch.Tensor) -> torch.Tensor:
    (answer,) = onnxruntime.InferenceSession(str(path)).run(None, {"images": images.numpy()})
    return torch.from_numpy(answer)


@pytest.mark.parametrize(("classifier", "neurons"), [(MLP((1, 8, 8), (12,), 5), 17), (convolutional(), 113)])
def test_the_file_votes_as_the_defence_for_any_batch(classifier: nn.Module, neurons: int, tmp_path: Path) -> None:
    defence, images = small(classifier, neurons), torch.rand(11, 1, 8, 8)
    path = export(defence, tmp_path / "d.onnx", images[:4], seed=3)
    expected = defence.votes(images, generator=torch.Generator().manual_seed(3))
    assert (run(path, images) - expected).abs().max() <= 1
    assert torch.equal(run(path, images[:1]).sum(1), torch.tensor([40]))


def test_the_classifier_alone_gives_its_logits(tmp_path: Path) -> None:
    defence, images = small(MLP((1, 8, 8), (12,), 5), 17), torch.rand(3, 1, 8, 8)
    path = export(defence, tmp_path / "n.onnx", images, classifier_only=True)
    with torch.no_grad():
        torch.testing.assert_close(run(path, images), defence.classifier(images), atol=1e-4, rtol=1e-4)


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    path = export(small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / "d.onnx", torch.rand(2, 1, 8, 8), seed=9, name="mine")
    facts = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    expected = {"name": "mine", "answers": "votes", "classes": 5, "seed": 9, "samples": 40}
    assert {key: json.loads(value) for key, value in facts.items()} == expected


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = onnxruntime.InferenceSession

    class Liar:
        def __init__(self, *arguments: object, **options: object) -> None:
            self.session = other(*arguments, **options)

        def run(self, *arguments: object) -> list[object]:
            return [self.session.run(*arguments)[0][:, ::-1].copy()]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Liar)
    with pytest.raises(ModelError, match=r"answers otherwise.*not kept"):
        export(small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / "d.onnx", torch.rand(4, 1, 8, 8))
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.export.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'carso\[export\]'"):
        export(small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / "d.onnx", torch.rand(2, 1, 8, 8))
