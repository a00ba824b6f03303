"""In torch and from the ONNX file, the answers are the defence's own."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from carso.defence import CARSO
from carso.errors import ModelError
from carso.serve.answering import Answer, ByOnnx, ByTorch, tried
from carso.storage.export import export


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def exported(defence: CARSO, images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    return export(defence, tmp_path_factory.mktemp("onnx") / "d.onnx", images[:2], seed=3, name="mine")


def test_a_defence_in_torch_answers_by_its_vote_and_says_what_n_alone_says(defence: CARSO, images: Tensor) -> None:
    torch.manual_seed(1)
    found = ByTorch(defence, "mine")(images)
    torch.manual_seed(1)
    tally = defence.poll(images)
    with torch.no_grad():
        alone = defence.classifier(images).argmax(1)
    assert [answer.label for answer in found] == tally.winners.tolist()
    assert [answer.shares for answer in found] == tally.shares.tolist()
    assert [answer.samples for answer in found] == tally.samples.tolist()
    assert [answer.alone for answer in found] == alone.tolist()


def test_another_aggregation_elects_the_class(defence: CARSO, images: Tensor) -> None:
    other = CARSO(defence.classifier, defence.purifier, samples=40, aggregation="exponential").fixed(2)
    found = ByTorch(other, "mine")(images)
    assert [answer.label for answer in found] == other.predict(images).tolist()
    assert all(answer.samples == 40 for answer in found)


def test_the_onnx_file_answers_by_its_own_latents(exported: Path, defence: CARSO, images: Tensor) -> None:
    served = ByOnnx(exported)
    votes = defence.votes(images, torch.Generator().manual_seed(3))
    told = (served.name, served.shape, served.samples, tuple(served.names))
    assert told == ("mine", (1, 8, 8), 40, defence.class_names)
    for answer, counts in zip(served(images), votes, strict=True):
        assert answer.alone is answer.disagrees is None
        assert torch.tensor(answer.shares).sub(counts / 40).abs().max() <= 0.01 + 1 / 40
        assert answer.label == int(torch.tensor(answer.shares).argmax())


def test_what_is_no_exported_defence_is_refused(defence: CARSO, images: Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    with pytest.raises(ModelError, match="there is no such file"):
        ByOnnx(tmp_path / "none.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ModelError, match=r"text\.onnx: cannot be run by onnxruntime"):
        ByOnnx(tmp_path / "text.onnx")
    alone = export(defence, tmp_path / "n.onnx", images[:1], classifier_only=True)
    with pytest.raises(ModelError, match="is a classifier alone"):
        ByOnnx(alone)


def test_an_answer_as_json_names_classes_and_tells_a_disagreement() -> None:
    answer = Answer(1, (0.25, 0.75), 40, alone=0)
    assert answer.told(("no", "yes")) == {
        "class": 1,
        "name": "yes",
        "share": 0.75,
        "shares": {"no": 0.25, "yes": 0.75},
        "disagreement": True,
        "classifier": {"class": 0, "name": "no"},
        "samples": 40,
    }
    assert Answer(1, (0.25, 0.75), 40, alone=1).disagrees is False
    assert Answer(1, (0.25, 0.75), 40).told(("no", "yes"))["classifier"] is None


def test_who_cannot_answer_is_found_out_at_once(defence: CARSO) -> None:
    torch.manual_seed(0)
    broken = CARSO(defence.classifier, defence.purifier, samples=4)
    served = ByTorch(broken, "mine")
    assert tried(served) is served
    served.shape = (3, 8, 8)
    with pytest.raises(Exception, match="shape"):
        tried(served)
