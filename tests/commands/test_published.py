"""The published design, from a folder of pictures to its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import carso
from carso.commands import cli
from carso.commands.reproduce import table
from carso.commands.shared import experiment_of
from carso.data import Dataset
from carso.nn import ResNet
from carso.purifier import ConvolutionalPurifier
from carso.training.reading import read_recipe
from carso.training.recipe import AttackSpec

pytestmark = pytest.mark.whole

SMALL = """name: small
base: cifar10-published
data: {data}
classifier: {{width: 4}}
adversarial: {{epochs: 1, batch: 16}}
purifier: {{code: 16, latent: 4}}
purification: {{epochs: 1, batch: 16}}
"""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Sixteen by sixteen pixels of noise, brighter in one colour: 30 of them to learn from, 6 to be tested on."""
    generator = torch.Generator().manual_seed(0)
    for split, count in (("train", 10), ("test", 2)):
        for channel, name in enumerate(("red", "green", "blue")):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = torch.randint(100, (16, 16, 3), generator=generator)
                pixels[..., channel] += 150
                Image.fromarray(pixels.byte().numpy()).save(folder / f"{i}.png")
    return tmp_path / "pictures"


def run(verb: list[str], pictures: Path, folder: Path, *options: str) -> Path:
    """Where a verb of the command line has left what it made of the recipe."""
    (folder / "small.yaml").write_text(SMALL.format(data=pictures))
    result = CliRunner().invoke(cli.app, [*verb, str(folder / "small.yaml"), "--out", str(folder / "out"), *options])
    assert result.exit_code == 0, result.output
    return folder / "out"


def test_the_published_design_is_trained_on_pictures(pictures: Path, tmp_path: Path) -> None:
    defence = carso.load(run(["train", "purifier"], pictures, tmp_path))
    assert isinstance(defence.classifier, ResNet)
    assert isinstance(defence.purifier, ConvolutionalPurifier)
    assert defence.purifier.options["compression"] == "published"
    assert (defence.samples, defence.aggregation) == (8, "peel")
    assert defence.class_names == ("blue", "green", "red")


def test_too_few_test_images_are_missed_before_anything_is_trained(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL.format(data=pictures))
    told = ["reproduce", str(tmp_path / "small.yaml"), "--out", str(tmp_path / "out"), "--test-images", "7"]
    result = CliRunner().invoke(cli.app, told)
    assert "has 6 images, fewer than the 7 asked for" in str(result.exception)
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_where_nobody_says_how_many_all_test_images_are_taken(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int | None, str]] = []

    def told(models: Any, dataset: Dataset, **options: Any) -> None:
        asked.append((options["settings"].n, dataset.name))

    out = run(["train", "purifier"], pictures, tmp_path)
    monkeypatch.setattr("carso.evaluation.evaluate", told)
    monkeypatch.setattr("carso.report.publish.publish", lambda records, out: out)
    experiment = experiment_of(str(tmp_path / "small.yaml"), out, None, "cpu")
    table(experiment, None, "confident")
    assert asked == [(6, str(pictures))]


@pytest.mark.slow
def test_the_published_design_from_pictures_to_its_report(pictures: Path, tmp_path: Path) -> None:
    out = run(["reproduce"], pictures, tmp_path, "--test-images", "3")
    assert json.loads((out / "results.json").read_text())["recipe"] == "small"
    assert (out / "report.html").exists()


def test_the_recipe_is_what_was_published() -> None:
    recipe = read_recipe("cifar10-published")
    purifier, training = recipe.purifier, recipe.purification
    assert training is not None
    assert (recipe.samples, recipe.aggregation, recipe.hardening) == (8, "peel", None)
    assert training.batches is None
    assert (purifier.kind, purifier.compression, purifier.latent, purifier.code) == (
        "convolutional",
        "published",
        128,
        512,
    )
    assert (training.epochs, training.optimiser, training.lookahead, training.shape) == (200, "radam", 6, "linear")
    assert training.rate == pytest.approx(1e-4 * training.batch)
    assert (training.warmup, training.flat, training.kl_lag) == (1 / 8, 1 / 8, 1 / 8)
    assert training.kl_warmup == pytest.approx(1 / 24, abs=1e-4)
    assert (training.ramp, training.consistency, training.average, training.weight_decay) == (0, 0, 0, 0)
    assert training.clean == len(training.attacks)
    assert training.attacks == tuple(
        AttackSpec(attack=attack, eps=eps / 255, **options)
        for attack, options in (("fgsm", {}), ("pgd", {"steps": 40, "alpha": 0.01}))
        for eps in (4, 8)
    )


def test_its_layers_are_the_convolutions_of_all_blocks() -> None:
    recipe = read_recipe("cifar10-published")
    network = ResNet((3, 32, 32), 10, **recipe.classifier.options)
    convolutions = {name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)}
    assert set(recipe.purifier.layers or ()) == convolutions - {"stem"}
    assert (
        list(recipe.purifier.layers or ()) == [name for name, _ in network.named_modules() if name in convolutions][1:]
    )
