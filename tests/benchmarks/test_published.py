"""The three attacks on the published design, with a stand-in for AutoAttack, and the page that is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.docs import published as document
from benchmarks.runs import published_design
from benchmarks.runs.published_design import ATTACKS, FILE, PUBLISHED, Protocol, copies, parser, through
from benchmarks.runs.published_short import shortened
from torch import Tensor

import carso
from carso import vote
from carso.data import Dataset
from carso.errors import RunError
from carso.evaluation.results import Rate
from carso.nn import ResNet
from carso.purifier import ConvolutionalPurifier
from carso.representation import Representation
from carso.storage import weights
from carso.training.reading import read_recipe

pytestmark = pytest.mark.whole

LOGITS = torch.randn(3, 8, 4, generator=torch.Generator().manual_seed(0))


def brightened(model: Any, images: Tensor, labels: Tensor, budget: Any, version: str, seed: int, eot: int) -> Tensor:
    """In the place of an attack."""
    assert version == "rand"
    model(images)
    return (images + budget.eps).clamp(0, 1)


def interrupt() -> dict[str, int]:
    raise KeyboardInterrupt


@pytest.fixture
def defence() -> carso.CARSO:
    torch.manual_seed(0)
    network = ResNet((3, 16, 16), 3, width=2, blocks=(1,)).eval()
    layers = ("groups.0.0.conv1", "groups.0.0.conv2")
    shapes = [
        shape for layer in Representation(network, layers).shapes(torch.rand(1, 3, 16, 16)).values() for shape in layer
    ]
    purifier = ConvolutionalPurifier((3, 16, 16), shapes, latent=4, code=6, compression="published")
    return carso.CARSO(network, purifier, layers, samples=8, stop="never").eval()


@pytest.fixture
def images() -> Dataset:
    generator = torch.Generator().manual_seed(1)
    return Dataset("noise", torch.rand(5, 3, 16, 16, generator=generator), torch.tensor([0, 1, 2, 0, 1]), tuple("abc"))


def settings(defence: carso.CARSO) -> dict[str, Any]:
    about = {"n": 5, "seed": 0, "batch": 2, "eps": 0.03, "eot": 3, "samples": 8, "data": "noise"}
    return about | {"classifier": {"blocks": [1], "width": 2, "classes": 3}}


def test_the_gradient_of_counts_is_zero_and_that_of_others_their_own() -> None:
    logits = LOGITS.clone().requires_grad_()
    for aggregation in PUBLISHED:
        scores = through(aggregation)(logits)
        torch.testing.assert_close(scores, vote.AGGREGATES[aggregation](logits))
        (slope,) = torch.autograd.grad(scores[:, 0].sum(), logits)
        assert bool((slope == 0).all()) == (aggregation == "mode")


def test_copies_are_alike() -> None:
    found = copies(lambda images, samples: LOGITS[:, :samples])(torch.rand(3, 1, 2, 2), 8)
    assert torch.equal(found, LOGITS[:, :1].expand(3, 8, 4))


def test_a_broken_off_protocol_goes_on_to_the_same_figures(
    defence: carso.CARSO, images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_design, "unguarded", brightened)
    whole = Protocol(defence, images, settings(defence), tmp_path / "whole.json")
    for attack in ATTACKS:
        whole.run(attack)
    parts = Protocol(defence, images, settings(defence), tmp_path / FILE)
    with monkeypatch.context() as patch:
        done = Protocol._batch
        patch.setattr(Protocol, "_batch", lambda *batch: done(*batch) if batch[-1] < 2 else interrupt())
        with pytest.raises(KeyboardInterrupt):
            parts.run("clean")
    assert json.loads((tmp_path / FILE).read_text())["attacks"]["clean"]["done"] == 2
    again = Protocol(defence, images, settings(defence), tmp_path / FILE)
    for attack in ATTACKS:
        again.run(attack)
    one, other = (json.loads((tmp_path / name).read_text())["attacks"] for name in ("whole.json", FILE))
    for attack in ATTACKS:
        assert (one[attack]["right"], one[attack]["done"]) == (other[attack]["right"], 5)
    assert set(one["before"]["right"]) == {"classifier", *PUBLISHED}
    assert set(one["peel"]["right"]) == {"peel"}
    bare = defence.classifier((images.images + 0.03).clamp(0, 1)).argmax(1)
    assert one["classifier"]["right"]["classifier"] == (bare == images.labels).sum()
    with pytest.raises(RunError, match="other settings"):
        Protocol(defence, images, settings(defence) | {"seed": 1}, tmp_path / FILE)
    text = document.page(json.loads((tmp_path / FILE).read_text()), {})
    assert f"| the same attack before the aggregation | {document.cell(one['before']['rates']['mode'])} |" in text
    assert "leads by 17.3" in text
    assert "less training" not in text


def test_the_page_says_what_was_shortened_and_who_keeps_more() -> None:
    rates = {"high": Rate.of(80, 100), "low": Rate.of(10, 100), "near": Rate.of(76, 100)}
    assert document.than(rates["high"], rates["low"]) == "more than"
    assert document.than(rates["low"], rates["high"]) == "fewer than"
    assert document.than(rates["high"], rates["near"]) == "not to be told apart from"
    assert document.than(Rate.of(46, 56), Rate.of(33, 56)) == "more than"
    attacks = {
        attack: {"seconds": 1.0, "rates": {name: rate.model_dump() for name in ("classifier", *PUBLISHED)}}
        for attack, rate in zip(ATTACKS, [rates["high"]] * 2 + [rates["low"]] * 6, strict=True)
    }
    about = {"n": 100, "seed": 0, "eps": 8 / 255, "eot": 1, "samples": 8, "data": "cifar10"}
    about |= {"classifier": {"blocks": [2], "width": 32, "classes": 10}}
    about["training"] = {"images": 8000, "epochs": 30, "steps": 10}
    found = {"settings": about, "environment": {"cpu": "cpu", "torch": "2", "carso": "0"}, "attacks": attacks}
    text = document.page(found, {})
    assert "8,000 images in place of 45,000,\n30 epochs in place of 200, PGD of 10 steps in place of 40" in text
    assert f"keeps {document.cell(rates['high'])} % under it: more than the defence" in text


def test_the_shortened_recipe_is_the_published_one_but_for_its_length() -> None:
    short, whole = shortened(30, 10).purification, read_recipe("cifar10-published").purification
    assert short is not None
    assert whole is not None
    assert (short.epochs, [attack.steps for attack in short.attacks if attack.attack == "pgd"]) == (30, [10, 10])
    steps = [{"steps": attack.steps} for attack in whole.attacks]
    attacks = tuple(a.model_copy(update=b) for a, b in zip(short.attacks, steps, strict=True))
    assert short.model_copy(update={"epochs": whole.epochs, "attacks": attacks}) == whole


def test_what_is_asked_for_is_done_on_saved_weights(
    defence: carso.CARSO, images: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published_design, "unguarded", brightened)
    monkeypatch.setattr("carso.data.load", lambda name, split: images)
    weights.save(defence, tmp_path / "weights")
    arguments = [
        str(tmp_path / "weights"),
        "--out",
        str(tmp_path),
        "--images",
        "4",
        "--only",
        "clean",
        "peel",
        "--no-audit",
    ]
    published_design.main(parser().parse_args(arguments))
    found = json.loads((tmp_path / FILE).read_text())
    assert list(found["attacks"]) == ["clean", "peel"]
    assert found["settings"]["classifier"]["width"] == 2
    assert found["attacks"]["peel"]["done"] == 4
