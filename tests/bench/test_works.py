from pathlib import Path

import torch

from carso.bench import bench as module
from carso.bench import works
from carso.defence import CARSO
from carso.nn import MLP
from carso.purifier import Purifier


def defence() -> CARSO:
    torch.manual_seed(0)
    return CARSO(MLP().eval(), Purifier((1, 28, 28), 290, latent=3), samples=30)


def test_the_published_loop_elects_the_same_classes() -> None:
    ours, images = defence(), torch.rand(6, 1, 28, 28)
    latents = ours.latents(generator=torch.Generator().manual_seed(0))
    expected = ours.poll(images, stop="never", generator=torch.Generator().manual_seed(0)).winners
    assert torch.equal(works.published(ours, images, latents), expected)


def test_every_work_names_ours_among_its_contestants() -> None:
    whole, images, labels = defence(), torch.rand(10, 1, 28, 28), torch.arange(10)
    classifier = whole.classifier
    found = [
        works.pgd(classifier, images, labels),
        works.deepfool(classifier, images, labels),
        works.prediction(whole, images),
        works.training(classifier, images, labels),
    ]
    assert all(work.ours in work.contestants and len(work.contestants) > 1 for work in found)
    assert works.linears(classifier) == [(784, 200), (200, 80), (80, 10)]


def test_the_operations_of_pgd_are_those_of_its_layers() -> None:
    work = works.pgd(defence().classifier, torch.rand(7, 1, 28, 28), torch.zeros(7, dtype=torch.long))
    once = 2 * 7 * (784 * 200 + 200 * 80 + 80 * 10)
    assert work.repeats * sum(2 * m * k * n for m, k, n in work.products) == works.STEPS * 2 * once


def test_a_small_bench_writes_what_it_found(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "product_rate", lambda dtype: 1e9)
    monkeypatch.setattr(module, "bandwidth", lambda: 1e9)
    found = module.bench(defence(), tmp_path / "bench.json", images=10, rounds=1)
    assert module.json.loads((tmp_path / "bench.json").read_text()) == found
    votes = next(work for work in found["works"] if work["work"].startswith("vote"))
    assert votes["check"]["figures"]["carso, stop never"] == 0
    assert votes["check"]["figures"]["carso, stop exact"] == 0
    attack = found["works"][0]
    assert attack["check"]["agree"] in (True, False)
    assert set(attack["ratios"]) == set(attack["seconds"]) - {"carso"}
