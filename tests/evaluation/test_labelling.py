from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from carso.commands import cli
from carso.data import Dataset
from carso.errors import DataError
from carso.evaluation.labelling import answers_of, labelled


class Brightest(nn.Module):
    """The brightest of four pixels."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


pytestmark = pytest.mark.usefixtures("fresh_progress")
IMAGES = torch.rand(150, 1, 2, 2, generator=torch.Generator().manual_seed(0))
BRIGHTEST = IMAGES.flatten(1).argmax(1)


def test_the_answers_of_a_classifier_are_those_of_each_image() -> None:
    assert torch.equal(answers_of(Brightest(), Dataset("d", IMAGES)), BRIGHTEST)


def test_images_without_labels_get_those_of_the_classifier(capsys: pytest.CaptureFixture[str]) -> None:
    found = labelled(Dataset("d", IMAGES, mixed=True), Brightest())
    assert "d: has no labels; the classifier's own clean answers stand for them" in capsys.readouterr().err
    assert torch.equal(found.required_labels, BRIGHTEST)
    assert found.classes == ("0", "1", "2", "3")
    assert found.name == "d, labelled by the classifier's own answers"


def test_only_as_many_as_are_needed_are_labelled() -> None:
    asked: list[int] = []

    class Counting(Brightest):
        def forward(self, images: Tensor) -> Tensor:
            asked.append(len(images))
            return super().forward(images)

    found, first = labelled(Dataset("d", IMAGES), Counting(), 20), Dataset("d", IMAGES).turns()[:20]
    assert torch.equal(found.images, IMAGES[first])
    assert torch.equal(found.required_labels, BRIGHTEST[first])
    assert max(asked) == 20
    dataset = Dataset("d", IMAGES, torch.zeros(150, dtype=torch.long), ("a", "b"))
    assert labelled(dataset, Counting(), 20) is dataset


def test_the_verbs_say_how_many_are_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed: list[int | None] = []

    def noted(images: Dataset, classifier: object, most: int | None = None) -> Dataset:
        needed.append(most)
        raise DataError("seen")

    monkeypatch.setattr("carso.evaluation.labelling.labelled", noted)
    for verb in (("attack", "mnist"), ("evaluate", "mnist"), ("audit", "mnist/classifier")):
        found = CliRunner().invoke(cli.app, [*verb, "--images", "12", "--out", str(tmp_path / verb[0])])
        assert isinstance(found.exception, DataError), found.output
    assert needed == [12, 12, 10_000]


def test_classes_have_the_names_that_the_classifier_gives_them() -> None:
    classifier = Brightest()
    classifier.class_names = ("a", "b", "c", "d")
    assert labelled(Dataset("d", IMAGES), classifier).classes == ("a", "b", "c", "d")


def test_labels_that_are_there_stay() -> None:
    dataset = Dataset("d", IMAGES, torch.zeros(150, dtype=torch.long), ("a", "b"))
    assert labelled(dataset, Brightest()) is dataset
