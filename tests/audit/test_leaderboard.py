"""Models by name, and (clean, robust) of any module as a leaderboard's script asks for it."""

from __future__ import annotations

import copy
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.efforts import shorten
from torch import Tensor, nn

import carso
from carso.audit import audit, leaderboard, read_audit
from carso.audit.leaderboard import RADII, Score, benchmark, list_models, load_model
from carso.data import Dataset
from carso.data.published import CIFAR_10_RELEASE, published_in
from carso.errors import CarsoError, DataError, ModelError
from carso.purifier import Purifier

EPS = 0.15


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch, "quick", n=500, tuning=4, steps=(5,), plain=5, queries=10)


@pytest.fixture(scope="module")
def defence(plain: nn.Module) -> carso.CARSO:
    torch.manual_seed(0)
    return carso.CARSO(plain, Purifier((1, 12, 12), 110, latent=4), samples=9)


@pytest.fixture(scope="module")
def own(defence: carso.CARSO, dataset: Dataset) -> Dataset:
    """Images labelled by the defence itself."""
    return replace(dataset, labels=defence.predict(dataset.images, torch.Generator().manual_seed(0)))


class TestModels:
    def test_what_ships_is_listed_with_its_classifier(self) -> None:
        shipped = ("mnist-strong", "mnist-strong-contrast", "mnist-thesis")
        expected = ["mnist-robust-cnn/classifier"]
        expected += [each for name in shipped for each in (name, f"{name}/classifier")]
        assert list_models("mnist") == list_models("mnist", "Linf") == expected
        assert list_models("fashion-mnist") == list_models("fashion") == ["fashion", "fashion/classifier"]
        assert list_models("mnist", "L2") == []
        assert set(list_models()) > set(expected)

    def test_photographs_have_a_defence_and_its_classifier(self) -> None:
        assert list_models("cifar10") == list_models("cifar-10") == ["cifar10", "cifar10/classifier"]
        assert carso.load_model("cifar10/classifier", "cifar-10")(torch.rand(2, 3, 32, 32)).shape == (2, 10)

    @pytest.mark.parametrize("name", ["mnist-thesis", "mnist-thesis/classifier"])
    def test_every_name_loads_as_a_module_of_images(self, name: str) -> None:
        model = carso.load_model(name, dataset="mnist", threat_model="Linf")
        assert not model.training
        assert model(torch.rand(3, 1, 28, 28)).shape == (3, 10)
        assert isinstance(model, carso.CARSO) == (name == "mnist-thesis")

    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"dataset": "cifar100"}, "mnist-thesis was not made for cifar100; those that were: none ships"),
            ({"threat_model": "L2"}, "mnist-thesis was not made for L2; those that were: none ships"),
        ],
    )
    def test_what_it_was_not_made_for_is_refused(self, asked: dict[str, Any], message: str) -> None:
        with pytest.raises(CarsoError, match=message):
            load_model("mnist-thesis", **asked)

    @pytest.mark.parametrize(("asked", "near"), [("MNIST", "mnist"), ("Fashion-MNIST", "fashion-mnist"), ("nope", "")])
    def test_a_dataset_that_there_is_not_is_told_from_one_without_models(self, asked: str, near: str) -> None:
        hint = f"; did you mean '{near}'?" if near else ""
        for ask in (lambda: list_models(asked), lambda: load_model("mnist-thesis", dataset=asked)):
            with pytest.raises(
                DataError, match=rf"^{asked}: neither a folder nor a dataset's name \(.*\){re.escape(hint)}$"
            ):
                ask()

    def test_the_undefended_one_was_made_for_no_attack(self) -> None:
        assert not load_model("mnist-strong/undefended", "mnist").training
        with pytest.raises(CarsoError, match=r"^mnist-strong/undefended was not made for Linf; those that were: "):
            load_model("mnist-strong/undefended", threat_model="Linf")

    def test_a_classifier_is_told_by_its_own_training(
        self, defence: carso.CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        attacked = {"attacks": [{"attack": "pgd", "eps": 0.1}]}
        for name, stage in (("around", "purification"), ("both", "adversarial")):
            carso.weights.save(defence, tmp_path / name, {"recipe": {"data": "mnist", stage: attacked}})
        monkeypatch.setattr("carso.storage.folder.SHIPPED", tmp_path)
        assert list_models("mnist") == ["around", "around/classifier", "both", "both/classifier"]
        assert list_models("mnist", "Linf") == ["around", "both", "both/classifier"]
        assert isinstance(load_model("around", "mnist", "Linf"), carso.CARSO)
        with pytest.raises(
            CarsoError, match="around/classifier was not made for Linf; those that were: around, both, "
        ):
            load_model("around/classifier", threat_model="Linf")

    def test_a_path_is_a_folder(self, defence: carso.CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        carso.weights.save(defence, Path("mnist-thesis"))
        for folder in (Path("mnist-thesis"), tmp_path / "mnist-thesis"):
            assert load_model(folder / "classifier")(torch.rand(2, 1, 12, 12)).shape == (2, defence.classes)
            assert isinstance(load_model(folder), carso.CARSO)
        with pytest.raises(CarsoError, match="no defence"):
            load_model(Path("mnist"))

    def test_near_names_are_suggested(self) -> None:
        with pytest.raises(CarsoError, match="did you mean 'mnist-thesis'"):
            load_model("mnist-thesys")


class TestBenchmark:
    def test_a_plain_module_is_scored_by_the_quick_audit(self, plain: nn.Module, dataset: Dataset) -> None:
        clean, robustness = score = benchmark(plain, dataset=dataset, eps=0.6 * EPS)
        found = audit(plain, dataset, effort="quick", eps=(0.6 * EPS,)).budgets[0]
        assert clean == found.clean.correct / 60
        assert robustness == found.worst_case.correct / 60
        assert robustness < clean <= 1
        assert score.audit.effort == "quick"

    def test_images_at_a_time_bound_what_the_model_sees_of_them(self, plain: nn.Module, dataset: Dataset) -> None:
        seen: list[int] = []

        class Counting(nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                seen.append(len(images))
                logits: Tensor = plain(images)
                return logits

        clean, robustness = benchmark(Counting(), 40, dataset, eps=EPS, batch_size=30)
        assert max(seen) <= 32 < 40
        assert clean > 0.9
        assert robustness < 0.1

    def test_a_defence_is_attacked_as_a_whole(self, defence: carso.CARSO, own: Dataset, tmp_path: Path) -> None:
        score = benchmark(defence, 6, own, eps=EPS, model_name="ours", out=tmp_path)
        assert score.audit.random
        assert score.audit.target == read_audit(tmp_path).target == "ours"
        attacks = {attack.name for attack in score.audit.budgets[0].attacks}
        assert {"pgd-fixed-latents", "pgd-exponential", "bpda", "square"} <= attacks

    def test_fixed_latents_are_said_wherever_the_score_is(
        self, defence: carso.CARSO, own: Dataset, capsys: pytest.CaptureFixture[str]
    ) -> None:
        score = benchmark(defence, 6, own, eps=EPS, deterministic=True, seed=3, model_name="ours")
        assert score.audit.target == "ours, latents fixed by seed 3"
        assert not score.audit.random
        assert "the latents are fixed by seed 3" in capsys.readouterr().err

    def test_what_has_no_latents_cannot_have_them_fixed(self, plain: nn.Module, dataset: Dataset) -> None:
        with pytest.raises(ModelError, match=r"fixes the latents of a .*; a MLP has none"):
            benchmark(plain, dataset=dataset, eps=EPS, deterministic=True)

    def test_the_radius_is_the_leaderboards_or_must_be_told(self, plain: nn.Module, dataset: Dataset) -> None:
        assert RADII["cifar10", "Linf"] == 8 / 255
        with pytest.raises(CarsoError, match=r"blobs Linf has no usual radius; pass eps"):
            benchmark(plain, dataset=dataset)
        with pytest.raises(DataError, match="fewer than the 61 asked for"):
            benchmark(plain, 61, dataset, eps=EPS)

    @pytest.mark.parametrize(
        ("asked", "name", "eps"),
        [
            ("fashion", "fashion-mnist", 0.1),
            ("cifar-10", "cifar10", 8 / 255),
            ("pictures/cifar-10-batches-py", "cifar10", 8 / 255),
        ],
    )
    def test_a_set_has_its_radius_by_whatever_name(
        self, asked: str, name: str, eps: float, plain: nn.Module, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(leaderboard, "load", lambda source, split: replace(dataset, name=name))
        assert benchmark(plain, 4, asked).audit.budgets[0].eps == eps

    def test_a_radius_and_a_folder_may_be_written(self, plain: nn.Module, dataset: Dataset, tmp_path: Path) -> None:
        score = benchmark(plain, 4, dataset, eps="8/255", out=str(tmp_path / "there"))
        assert score.audit.budgets[0].eps == 8 / 255
        assert read_audit(tmp_path / "there").n == 4

    @pytest.mark.whole
    @pytest.mark.parametrize(
        ("asked", "message"),
        [
            ({"eps": "a lot"}, "eps: a radius is a number or a fraction, such as 0.03 or 8/255, not 'a lot'"),
            ({"device": "tpu"}, "the model cannot be moved to the device 'tpu': .*tpu"),
            ({"device": "cuda:99"}, "the model cannot be moved to the device 'cuda:99': "),
            ({"n_examples": 10.0}, "n must be a whole number, at least 1, not 10.0"),
            ({"batch_size": 5.5}, "chunk must be a whole number, at least 1, not 5.5"),
        ],
    )
    def test_what_cannot_be_is_one_line(
        self, asked: dict[str, Any], message: str, plain: nn.Module, dataset: Dataset
    ) -> None:
        with pytest.raises(CarsoError, match=f"^{message}") as found:
            benchmark(plain, dataset=dataset, **{"eps": EPS, **asked})
        assert "\n" not in str(found.value)

    @pytest.mark.whole
    @pytest.mark.parametrize(
        ("eps", "message"),
        [
            (0.1, r"eps are several radii, as \(0\.15, 0\.3\), not 0\.1"),
            ("8/255", r"eps are several radii, as \(0\.15, 0\.3\), not '8/255'"),
            (("8/255",), "eps must be a number, such as 8 / 255, not '8/255'"),
        ],
    )
    def test_the_radii_of_an_audit_are_numbers(
        self, eps: Any, message: str, plain: nn.Module, dataset: Dataset
    ) -> None:
        with pytest.raises(CarsoError, match=message):
            audit(plain, dataset, effort="quick", eps=eps)

    def test_a_score_is_copied_and_pickled_with_its_audit(self, plain: nn.Module, dataset: Dataset) -> None:
        score = benchmark(plain, 4, dataset, eps=EPS)
        for twin in (copy.copy(score), copy.deepcopy(score), pickle.loads(pickle.dumps(score))):
            assert (type(twin), twin, twin.audit) == (Score, score, score.audit)

    def test_a_published_set_is_found_in_a_folder_of_data(self, tmp_path: Path) -> None:
        folder = tmp_path / CIFAR_10_RELEASE.folder
        assert published_in(tmp_path, "cifar10") == published_in(None, "cifar10") == "cifar10"
        folder.mkdir()
        for name in CIFAR_10_RELEASE.members:
            (folder / name).write_bytes(b"")
        assert published_in(tmp_path, "cifar10") == folder
        assert published_in(tmp_path, "mnist") == "mnist"


def test_an_evaluation_tells_fixed_latents_too(defence: carso.CARSO) -> None:
    from carso.evaluation.models import fingerprint, voting

    assert voting(defence.fixed(3))["fixed_by"] == 3
    assert "fixed_by" not in voting(defence)
    assert fingerprint(defence.fixed(3)) != fingerprint(defence) != fingerprint(defence.fixed(4))


def test_no_images_are_not_all_of_them() -> None:
    with pytest.raises(CarsoError, match=r"n must be|at least"):
        benchmark(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), n_examples=0, dataset="mnist", eps=0.1)
