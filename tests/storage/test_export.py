from __future__ import annotations

import copy
import json
import logging
from pathlib import Path

import pytest
import torch
from torch import nn

import carso
from carso.errors import CarsoError, DataError, ModelError, RunError
from carso.nn import MLP
from carso.nn.maps import Maps
from carso.purifier import Purifier
from carso.storage.export import _check_alike, export, is_export_of
from carso.storage.weights import digest
from carso.vote import mode

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def small(classifier: nn.Module, neurons: int) -> carso.CARSO:
    torch.manual_seed(0)
    return carso.CARSO(classifier, Purifier((1, 8, 8), neurons, latent=4), samples=40)


def convolutional() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(108, 5)).eval()


def run(path: Path, images: torch.Tensor) -> torch.Tensor:
    answer, *_ = onnxruntime.InferenceSession(str(path)).run(None, {"images": images.numpy()})
    return torch.from_numpy(answer)


@pytest.mark.parametrize(("classifier", "neurons"), [(MLP((1, 8, 8), (12,), 5), 17), (convolutional(), 113)])
def test_the_file_votes_as_the_defence_for_any_batch(classifier: nn.Module, neurons: int, tmp_path: Path) -> None:
    defence, images = small(classifier, neurons), torch.rand(11, 1, 8, 8)
    path = export(defence, tmp_path / "d.onnx", images[:4], seed=3)
    expected = defence.votes(images, generator=torch.Generator().manual_seed(3))
    assert (run(path, images) - expected).abs().max() <= 1
    assert torch.equal(run(path, images[:1]).sum(1), torch.tensor([40]))
    votes, winners = onnxruntime.InferenceSession(str(path)).run(["votes", "winners"], {"images": images.numpy()})
    assert winners.tolist() == mode(torch.from_numpy(votes)).tolist()


def test_convolutions_of_the_representation_are_exported(tmp_path: Path) -> None:
    purifier = Purifier((1, 8, 8), 81, latent=4, representation=(20, 9), maps=Maps([(1, 8, 8), (12,), (5,)], (3, 4)))
    defence = carso.CARSO(MLP((1, 8, 8), (12,), 5), purifier, ("input", "mish1", "output"), samples=40)
    images = torch.rand(11, 1, 8, 8)
    path = export(defence, tmp_path / "d.onnx", images[:4], seed=3)
    expected = defence.votes(images, generator=torch.Generator().manual_seed(3))
    assert (run(path, images) - expected).abs().max() <= 1


@pytest.mark.parametrize("alone", [False, True])
def test_modules_keep_the_mode_they_are_in(alone: bool, tmp_path: Path) -> None:
    defence = small(MLP((1, 8, 8), (12,), 5).train(), 17)
    defence.purifier.decoder.eval()
    before = [module.training for module in defence.modules()]
    export(defence, tmp_path / "d.onnx", torch.rand(2, 1, 8, 8), classifier_only=alone)
    assert [module.training for module in defence.modules()] == before
    assert defence.classifier.dropout1.training


def test_the_classifier_alone_gives_its_logits(tmp_path: Path) -> None:
    defence, images = small(MLP((1, 8, 8), (12,), 5).eval(), 17), torch.rand(3, 1, 8, 8)
    path = export(defence, tmp_path / "n.onnx", images[:1], classifier_only=True)
    with torch.no_grad():
        torch.testing.assert_close(run(path, images), defence.classifier(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("alone", [False, True])
def test_other_precisions_are_exported_in_single(
    kind: torch.dtype, alone: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    defence, images = small(MLP((1, 8, 8), (12,), 5).eval(), 17), torch.rand(3, 1, 8, 8)
    single = copy.deepcopy(defence)
    single.classifier.to(kind).float()
    defence.classifier.to(kind)
    path = export(defence, tmp_path / "d.onnx", images, seed=3, classifier_only=alone)
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert next(defence.classifier.parameters()).dtype == kind
    answers = single.classifier(images) if alone else single.votes(images, torch.Generator().manual_seed(3))
    torch.testing.assert_close(run(path, images), answers.detach(), atol=1e-4, rtol=1e-4)


def test_a_classifier_without_a_defence_gives_its_logits_and_says_what_it_is(tmp_path: Path) -> None:
    classifier, images = MLP((1, 8, 8), (12,), 5).train(), torch.rand(3, 1, 8, 8)
    path = export(classifier, tmp_path / "n.onnx", images[:1], name="mine")
    assert classifier.training
    with torch.no_grad():
        torch.testing.assert_close(run(path, images), classifier.eval()(images), atol=1e-4, rtol=1e-4)
    facts = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    expected = {"name": "mine", "answers": ["logits"], "classes": 5, "shape": [1, 8, 8], "carso": carso.__version__}
    assert {key: json.loads(value) for key, value in facts.items()} == expected


@pytest.mark.parametrize(("names", "kept"), [("abcde", list("abcde")), ("abc", None)])
def test_a_classifier_that_names_all_its_classes_is_exported_with_their_names(
    names: str, kept: list[str] | None, tmp_path: Path
) -> None:
    classifier = MLP((1, 8, 8), (12,), 5)
    classifier.class_names = tuple(names)
    path = export(classifier, tmp_path / "n.onnx", torch.rand(2, 1, 8, 8))
    facts = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert json.loads(facts.get("names", "null")) == kept


def test_a_classifier_of_other_images_is_told_to_name_them(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot run on images of shape \(1, 6, 6\): .*: --data on the command line$"):
        export(MLP((1, 8, 8), (12,), 5), tmp_path / "n.onnx", torch.rand(2, 1, 6, 6))
    with pytest.raises(ModelError, match=r"must return \(batch, classes\); 1 image gave \(1,\)"):
        export(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0)), tmp_path / "n.onnx", torch.rand(2, 1, 8, 8)
        )


def test_whatever_a_classifier_raises_is_named_with_its_kind(tmp_path: Path) -> None:
    class Failing(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return {3: images}[len(images)]

    with pytest.raises(ModelError, match=r"cannot run on images of shape \(1, 6, 6\): KeyError: 1; if it was made for"):
        export(Failing(), tmp_path / "n.onnx", torch.rand(2, 1, 6, 6))


@pytest.mark.parametrize(("fixed_by", "seed"), [(None, 9), (9, 0)])
def test_the_file_says_what_it_is(fixed_by: int | None, seed: int, tmp_path: Path) -> None:
    defence = small(MLP((1, 8, 8), (12,), 5), 17)
    defence.fixed_by = fixed_by
    path = export(defence, tmp_path / "d.onnx", torch.rand(2, 1, 8, 8), seed=seed, name="mine")
    facts = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    expected = {"name": "mine", "answers": ["votes", "winners"], "classes": 5, "seed": 9, "samples": 40}
    expected |= {"shape": [1, 8, 8], "carso": carso.__version__, "weights": digest(defence)}
    assert {key: json.loads(value) for key, value in facts.items()} == expected


def test_a_file_is_known_to_be_of_a_defence(tmp_path: Path) -> None:
    defence = small(MLP((1, 8, 8), (12,), 5), 17)
    path = export(defence, tmp_path / "d.onnx", torch.rand(2, 1, 8, 8), seed=3)
    assert is_export_of(defence, path, 3)
    assert not is_export_of(defence, path, 4)
    assert not is_export_of(defence, tmp_path / "none.onnx", 3)
    defence.samples = 20
    assert not is_export_of(defence, path, 3)
    defence.samples = 40
    with torch.no_grad():
        next(defence.purifier.parameters()).add_(1)
    assert not is_export_of(defence, path, 3)
    path.write_text("hello")
    assert not is_export_of(defence, path, 3)


def test_a_full_disk_is_not_the_classifiers_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch.onnx.ONNXProgram, "save", full)
    with pytest.raises(
        RunError, match=r"^cannot write .*d\.onnx: No space left on device; what was there is untouched$"
    ):
        export(small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / "d.onnx", torch.rand(2, 1, 8, 8))
    assert not list(tmp_path.iterdir())


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = onnxruntime.InferenceSession

    class Liar:
        def __init__(self, *arguments: object, **options: object) -> None:
            self.session = other(*arguments, **options)

        def run(self, *arguments: object) -> list[object]:
            return [answer + 1 for answer in self.session.run(*arguments)]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Liar)
    with pytest.raises(ModelError, match=r"answers otherwise.*not kept"):
        export(small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / "d.onnx", torch.rand(4, 1, 8, 8))
    assert not list(tmp_path.iterdir())


class Scaled(nn.Module):
    """A classifier whose logits are made larger or smaller."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.classifier, self.scale = MLP((1, 8, 8), (12,), 5).eval(), scale

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * self.classifier(images)


def test_large_logits_are_rounded_as_small_ones_are(tmp_path: Path) -> None:
    """Those of a sum in another order, which onnxruntime may take, are this far apart."""
    found = Scaled(1e6).eval()(images := torch.rand(32, 1, 8, 8)).detach()
    _check_alike([found * (1 + 1e-5)], [found])
    export(Scaled(1e6).eval(), tmp_path / "d.onnx", images)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e6])
def test_logits_that_are_apart_are_apart_however_small(scale: float, tmp_path: Path) -> None:
    found = Scaled(scale).eval()(torch.rand(8, 1, 8, 8)).detach()
    with pytest.raises(ModelError, match=r"not kept: its logits differ by up to \S+, the largest is \S+$"):
        _check_alike([found * 1.1], [found])


def test_the_file_is_proven_on_one_image_at_least(tmp_path: Path) -> None:
    for alone in (False, True):
        with pytest.raises(DataError, match=r"^export needs at least one image"):
            export(
                small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / "d.onnx", torch.rand(0, 1, 8, 8), classifier_only=alone
            )


@pytest.mark.parametrize("step", ["load", "run"])
def test_a_file_that_does_not_run_is_not_kept_and_says_why(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unable:
        def __init__(self, path: str, *_: object, **__: object) -> None:
            if step == "load":
                raise RuntimeError(f"{path} has no kernel\nfor that")

        def run(self, *_: object) -> list[object]:
            raise RuntimeError("it has no kernel\nfor that")

    monkeypatch.setattr(onnxruntime, "InferenceSession", Unable)
    with pytest.raises(ModelError, match=r"^the exported file does not run in onnxruntime: it has no kernel$"):
        export(small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / "d.onnx", torch.rand(4, 1, 8, 8))
    assert not list(tmp_path.iterdir())


def test_memory_does_not_grow_with_the_batch(tmp_path: Path) -> None:
    path = export(small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / "d.onnx", torch.rand(2, 1, 8, 8))
    graph = onnx.load(path).graph
    (loop,) = (node for node in graph.node if node.op_type == "Scan")
    body = next(attribute.g for attribute in loop.attribute if attribute.name == "body")
    sizes = [dim.dim_param for output in body.output for dim in output.type.tensor_type.shape.dim]
    assert "batch" not in sizes
    assert {"Gemm", "MatMul"} & {node.op_type for node in body.node}


@pytest.mark.parametrize(
    ("shape", "target", "message"),
    [
        ((2, 1, 6, 6), "d.onnx", r"shape \(batch, 1, 8, 8\)"),
        ((2, 1, 8, 8), ".", "it is a folder"),
        ((2, 1, 8, 8), "file/d.onnx", "cannot write"),
    ],
)
def test_what_cannot_be_exported_is_said_first(
    shape: tuple[int, ...], target: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(CarsoError, match=message):
        export(small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / target, torch.rand(shape))
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_another_aggregation_is_refused(tmp_path: Path) -> None:
    defence = small(MLP((1, 8, 8), (12,), 5), 17)
    defence.aggregation = "peel"
    with pytest.raises(ModelError, match="answers by 'peel'"):
        export(defence, tmp_path / "d.onnx", torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize(
    ("place", "classifier_only", "message"),
    [
        ("classifier.logits.bias", False, "candidates have NaN"),
        ("classifier.logits.bias", True, "answers otherwise"),
        ("purifier.decoder.0.bias", False, "candidates have NaN"),
        ("purifier.representation_encoder.0.bias", False, "candidates have NaN"),
    ],
)
def test_one_weight_that_is_no_number_is_not_exported(
    place: str, classifier_only: bool, message: str, tmp_path: Path
) -> None:
    defence = small(MLP((1, 8, 8), (12,), 5), 17)
    with torch.no_grad():
        defence.get_parameter(place)[0] = torch.nan
    with pytest.raises(ModelError, match=message):
        export(defence, tmp_path / "d.onnx", torch.rand(2, 1, 8, 8), classifier_only=classifier_only)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carso.storage.export.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'carso\[export\]'"):
        export(small(MLP((1, 8, 8), (12,), 5), 17), tmp_path / "d.onnx", torch.rand(2, 1, 8, 8))
