import shutil
from pathlib import Path

import pytest

import carso
from carso.errors import WeightsError
from carso.nn import MLP, ResNet
from carso.purifier import Purifier
from carso.storage import folder, weights


def test_a_folder_is_not_taken_for_the_shipped_defence_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own, defence = Path("mnist-thesis"), carso.CARSO(MLP((1, 8, 8), (12, 7)), Purifier((1, 8, 8), 29, latent=6))
    weights.save(defence, own, {"recipe": {"data": "own"}})
    for source in (own, "./mnist-thesis", "mnist-thesis/"):
        assert weights.digest(carso.load(source)) == weights.digest(defence)
        assert weights.origin(source).data == "own"
        assert folder.hidden_by(str(source)) == (own if source is own else None)
    assert folder.find("mnist-thesis") == folder.SHIPPED / "mnist-thesis"
    assert folder.hidden_by("mnist") is None


def test_unknown_names_get_a_near_one() -> None:
    with pytest.raises(WeightsError, match="did you mean 'mnist"):
        carso.load("mnits")


def test_a_classifier_that_is_alone_is_found_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = ["mnist-robust-cnn"]
    assert sorted([*folder.shipped(), *alone]) == folder.shipped(folder.CLASSIFIER)
    shutil.copytree(folder.SHIPPED / "cifar10", tmp_path / "shipped" / "cifar10")
    (tmp_path / "shipped" / "cifar10" / folder.PURIFIER).unlink()
    monkeypatch.setattr(folder, "SHIPPED", tmp_path / "shipped")
    assert (folder.shipped(), folder.shipped(folder.CLASSIFIER)) == ([], ["cifar10"])
    assert folder.find("cifar10", folder.CLASSIFIER).name == "cifar10"
    assert weights.origin("cifar10").data == "cifar10"
    weights.save_classifier(MLP((1, 8, 8)), tmp_path / folder.CLASSIFIER, {"recipe": {"data": "others"}})
    assert weights.origin(tmp_path).data == "others"
    assert isinstance(weights.load_classifier(folder.find("cifar10", folder.CLASSIFIER) / folder.CLASSIFIER), ResNet)
    with pytest.raises(WeightsError, match=r"^cifar10 is a plain classifier and .* take it as cifar10/classifier$"):
        carso.load("cifar10")
