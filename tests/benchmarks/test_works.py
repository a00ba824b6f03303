import json
from pathlib import Path

import pytest
import torch
from benchmarks.speed import bench as module
from benchmarks.speed import convolutional, peers, works

import carso
from carso import data
from carso.defence import CARSO
from carso.errors import DataError
from carso.nn import MLP
from carso.purifier import Purifier
from carso.training.reading import read_recipe

pytestmark = pytest.mark.whole


@pytest.fixture
def defence() -> CARSO:
    torch.manual_seed(0)
    return CARSO(MLP().eval(), Purifier((1, 28, 28), 290, latent=3), samples=30)


def digits(n: int) -> data.Dataset:
    return data.load("mnist", "validation")[:n]


def test_the_published_loop_elects_the_same_classes() -> None:
    shipped, images = carso.load("mnist-thesis"), digits(6).images
    latents = shipped.latents(60, torch.Generator().manual_seed(0))
    votes = shipped.poll(images, samples=60, stop="never", generator=torch.Generator().manual_seed(0))
    assert torch.equal(peers.published_vote(shipped, images, latents), votes.winners)
    assert torch.equal(works.full_in_float32(shipped, images, 60), votes.winners)


def test_float32_attacks_as_strongly() -> None:
    classifier, some = carso.load("mnist-thesis").classifier, digits(200)
    torch.manual_seed(0)
    found = works.PGD_40.in_float32(classifier, some.images, some.required_labels)
    assert (found - some.images).abs().max() <= works.EPS + 1e-6
    expected = carso.attacks.pgd(
        classifier, some.images, some.required_labels, carso.Budget("Linf", works.EPS), alpha=works.ALPHA, fast=False
    )
    with torch.no_grad():
        fooled = [(classifier(x).argmax(1) != some.labels).float().mean() for x in (found, expected)]
    assert abs(fooled[0] - fooled[1]) <= 0.05


def test_every_work_names_ours_among_its_contestants(defence: CARSO) -> None:
    some, classifier = digits(10), defence.classifier
    found = [
        works.pgd(classifier, some.images, some.required_labels),
        works.deepfool(classifier, some.images, some.required_labels),
        works.prediction(defence, some.images),
        works.training(classifier, some, some),
        works.fresh(defence, some.images[0]),
    ]
    assert all({*work.ours, *work.limited} <= {*work.contestants} and len(work.contestants) > 1 for work in found)
    assert works.linears(classifier) == [(784, 200), (200, 80), (80, 10)]


def test_the_operations_of_pgd_are_those_of_its_layers(defence: CARSO) -> None:
    work = works.pgd(defence.classifier, torch.rand(7, 1, 28, 28), torch.zeros(7, dtype=torch.long))
    once = 2 * 7 * (784 * 200 + 200 * 80 + 80 * 10)
    assert work.repeats * sum(2 * m * k * n for m, k, n in work.products) == works.STEPS * 2 * once


def test_the_operations_of_a_vote_are_those_of_its_layers_but_the_shared_first(defence: CARSO) -> None:
    work, (_, *decoder) = works.prediction(defence, digits(8).images), works.linears(defence.purifier.decoder)
    each = sum(2 * i * o for i, o in [*decoder, (784, 200), (200, 80), (80, 10)])
    assert work.repeats * sum(2 * m * k * n for m, k, n in work.products) == pytest.approx(8 * 30 * each)


def test_the_plain_loop_mixes_what_the_recipe_says(defence: CARSO) -> None:
    recipe, some = read_recipe("thesis").adversarial, digits(50)
    assert recipe is not None
    mixed = peers.mixed_by_torchattacks(defence.classifier, some.images, some.required_labels, recipe.attacks)
    moved = [float(part.abs().max()) for part in (mixed - some.images).tensor_split(len(recipe.attacks) + 1)]
    assert moved == pytest.approx([0, *(spec.eps for spec in recipe.attacks)], abs=1e-6)


def test_a_small_bench_adds_what_it_found_to_the_file(
    defence: CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "product_rate", lambda dtype, clock: 1e9)
    monkeypatch.setattr(module, "product_seconds", lambda shapes, dtype, clock: 1e-9)
    monkeypatch.setattr(module, "bandwidth", lambda clock: 1e9)
    out = tmp_path / "bench.json"
    module.bench(defence, out, images=10, rounds=1, only=["pgd"])
    found = module.bench(defence, out, images=10, rounds=1, only=["vote", "agreement"])
    assert json.loads(out.read_text()) == found
    assert set(found) == {"pgd", "vote", "agreement"}
    assert set(found["vote"]["check"]["figures"].values()) == {0}
    assert set(found["pgd"]["ratios"]["carso"]) == set(found["pgd"]["seconds"]) - {"carso"}
    assert found["agreement"]["found"]["n"] == 100
    assert len(found["agreement"]["found"]["rows"]) == 10


def test_an_unknown_name_is_told(defence: CARSO) -> None:
    with pytest.raises(DataError, match="'swimming'; there are pgd"):
        module.bench(defence, only=["swimming"])


def test_works_of_convolutions_compare_alike_contestants() -> None:
    """A climb on the network's own answers succeeds as often by autograd; the plain loop has no clean part either."""
    found = [convolutional.pgd_resnet(4), convolutional.training_resnet(4)]
    assert all({*work.ours} <= {*work.contestants} and not work.limited for work in found)
    network = convolutional.resnet()
    some = convolutional.noise(4, network)
    mixed = peers.mixed_by_torchattacks(network, some.images, some.required_labels, [convolutional.STEP], clean=False)
    assert len(mixed) == 4
    assert ((mixed - some.images).abs().flatten(1).amax(1) > 0).all()
