from pathlib import Path

import pytest
import torch
from torch import nn

import carso
from carso.audit import read_audit
from carso.errors import RunError, WeightsError
from carso.nn import MLP
from carso.nn.maps import Maps
from carso.purifier import Purifier
from carso.storage import weights
from carso.storage.files import write_text


@pytest.fixture
def defence() -> carso.CARSO:
    return carso.CARSO(MLP((1, 8, 8), (12, 7)), Purifier((1, 8, 8), 29, latent=6), samples=40, rule="mean")


@pytest.mark.parametrize("half", [False, True])
def test_a_saved_defence_comes_back(defence: carso.CARSO, tmp_path: Path, half: bool) -> None:
    if half:
        defence.half().float()
    weights.save(defence, tmp_path, {"seed": 7}, half=half)
    again = carso.load(tmp_path)
    images = torch.rand(5, 1, 8, 8)
    answers = [d(images, torch.Generator().manual_seed(0)) for d in (defence, again)]
    assert torch.equal(*answers)
    assert (again.samples, again.rule) == (40, "mean")
    assert weights.about(tmp_path / weights.PURIFIER, "purifier")["seed"] == 7


def test_convolutions_come_back(tmp_path: Path) -> None:
    maps = Maps([(1, 8, 8), (12,), (10,)], (3, 5))
    purifier = Purifier((1, 8, 8), 86, latent=6, representation=(20, 9), maps=maps)
    defence = carso.CARSO(MLP((1, 8, 8), (12,), maps=(2,)), purifier, ("input", "mish1", "output"), samples=40)
    weights.save(defence, tmp_path)
    again, images = carso.load(tmp_path), torch.rand(5, 1, 8, 8)
    assert again.purifier.maps.channels == (3, 5)
    assert torch.equal(again.codes(images), defence.codes(images))


def test_a_foreign_classifier_must_be_given_and_must_be_the_right_one(tmp_path: Path) -> None:
    own = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))
    weights.save(carso.CARSO(own, Purifier((1, 8, 8), 8)), tmp_path)
    with pytest.raises(WeightsError, match="pass it"):
        carso.load(tmp_path)
    assert carso.load(tmp_path, own).classifier is own
    with torch.no_grad():
        own[1].bias += 1
    with pytest.raises(WeightsError, match="other weights"):
        carso.load(tmp_path, own)


def test_unknown_names_get_a_near_one() -> None:
    with pytest.raises(WeightsError, match="did you mean 'mnist"):
        carso.load("mnits")


@pytest.mark.parametrize("file", [weights.CLASSIFIER, weights.PURIFIER])
def test_damaged_files_are_named(defence: carso.CARSO, tmp_path: Path, file: str) -> None:
    weights.save(defence, tmp_path)
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=file):
        carso.load(tmp_path)


def test_files_that_do_not_belong_are_refused(defence: carso.CARSO, tmp_path: Path) -> None:
    weights.save(defence, tmp_path)
    weights.save_classifier(defence.classifier, tmp_path / weights.PURIFIER)
    with pytest.raises(WeightsError, match="holds a classifier, not a purifier"):
        carso.load(tmp_path)
    (tmp_path / weights.PURIFIER).write_bytes(b"PK\x03\x04 something else")
    with pytest.raises(WeightsError, match="truncated or not a safetensors"):
        carso.load(tmp_path)


def test_a_full_disk_leaves_the_old_file_whole(
    defence: carso.CARSO, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.save(defence, tmp_path)
    before = (tmp_path / weights.PURIFIER).read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("carso.storage.tensors.save_file", full)
    with pytest.raises(RunError, match=r"No space left.*untouched"):
        weights.save(defence, tmp_path)
    assert (tmp_path / weights.PURIFIER).read_bytes() == before
    assert not list(tmp_path.glob(".*"))


def test_text_is_replaced_in_one_move(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b.txt", "old")
    write_text(tmp_path / "a" / "b.txt", "new")
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.txt"]


@pytest.mark.parametrize("name", weights.shipped())
def test_a_shipped_audit_is_of_the_shipped_weights(name: str) -> None:
    found = read_audit(weights.find(name))
    assert found.weights == weights.digest(carso.load(name))
    kept = Path(__file__).parents[2] / "benchmarks" / "results" / f"{name.removeprefix('mnist-')}-audit" / "carso"
    assert found == read_audit(kept)


def test_the_hardened_purifier_stands_before_the_same_classifier() -> None:
    hardened, plain = (weights.digest(carso.load(name).classifier) for name in ("mnist-strong", "mnist-thesis"))
    assert hardened == plain
