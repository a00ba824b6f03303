import ntpath
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from carso.audit import loading
from carso.audit.loading import column_of, load_target, load_transfers, undefended_of, whole_of
from carso.defence import CARSO
from carso.errors import ModelError, WeightsError
from carso.nn import MLP
from carso.purifier import Purifier
from carso.rivals import files
from carso.storage import weights


def test_a_trained_classifier_needs_no_purifier_beside_it(tmp_path: Path) -> None:
    classifier, images = MLP((1, 8, 8), (7,)).eval(), torch.rand(3, 1, 8, 8)
    weights.save_classifier(classifier, tmp_path / weights.CLASSIFIER)
    assert torch.equal(load_target(f"{tmp_path}/classifier")(images), classifier(images))
    with pytest.raises(WeightsError, match=f"holds no {weights.UNDEFENDED}"):
        load_target(f"{tmp_path}/undefended")
    with pytest.raises(WeightsError, match=f"holds no {weights.PURIFIER}"):
        load_target(str(tmp_path))


def test_who_asks_for_a_whole_defence_and_names_a_classifier_is_told_what_takes_it(tmp_path: Path) -> None:
    weights.save_classifier(MLP((1, 8, 8), (7,)), tmp_path / weights.CLASSIFIER)
    (tmp_path / "undefended").mkdir()
    for source in ("mnist-thesis/classifier", f"{tmp_path}/classifier", tmp_path / "classifier"):
        with pytest.raises(
            WeightsError, match=rf"{source} is a plain classifier .*: carso\.load_model, and carso pred"
        ):
            weights.load(source)
    for source in ("none/classifier", f"{tmp_path}/undefended"):
        with pytest.raises(WeightsError, match=r"no defence|holds no purifier"):
            weights.load(source)


def test_a_name_that_is_none_is_told_the_near_one_and_all_that_is_taken(tmp_path: Path) -> None:
    weights.save_classifier(MLP((1, 8, 8), (7,)), tmp_path / weights.CLASSIFIER)
    for source, near in {
        "mnist/classifer": "mnist/classifier",
        "fashion/undefnded": "fashion/undefended",
        f"{tmp_path}/clasifier": f"{tmp_path}/classifier",
    }.items():
        with pytest.raises(WeightsError, match=rf"^no defence '{source}'; did you mean '{near}'\?; shipped: mnist, "):
            load_target(source)
    with pytest.raises(
        WeightsError, match=r"mnist-thesis, also with /classifier .*, and mnist-robust-cnn/classifier; or pass a folder"
    ):
        load_target("nothing at all")


def test_a_trained_classifier_of_the_users_own_needs_no_purifier_beside_it(tmp_path: Path) -> None:
    own, trained = (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).eval() for _ in range(2))
    weights.save_classifier(trained, tmp_path / weights.CLASSIFIER, {"trained": True})
    assert weights.digest(load_target(f"{tmp_path}/classifier", own)) == weights.digest(trained)


def test_a_rival_is_no_part_whatever_its_folder_is_called(tmp_path: Path) -> None:
    (tmp_path / "classifier").mkdir()
    (tmp_path / "classifier" / files.FILE).touch()
    assert column_of(f"{tmp_path}/classifier") == column_of("mine:build") == "classifier"


def test_a_classifier_is_that_of_the_defence_whose_purifier_is_beside_it(tmp_path: Path) -> None:
    weights.save_classifier(MLP((1, 8, 8), (7,)), tmp_path / weights.CLASSIFIER)
    assert [whole_of(f"mnist/{part}") for part in ("classifier", "undefended")] == ["mnist", "mnist"]
    assert whole_of("mnist") is whole_of(f"{tmp_path}/classifier") is None


def test_a_part_may_be_written_as_a_shell_completes_it(tmp_path: Path) -> None:
    classifier, images = MLP((1, 8, 8), (7,)).eval(), torch.rand(3, 1, 8, 8)
    weights.save_classifier(classifier, tmp_path / weights.CLASSIFIER)
    for name in (f"{tmp_path}/classifier/", f"{tmp_path}//classifier//"):
        assert torch.equal(load_target(name)(images), classifier(images))
        assert column_of(name) == "adversarially_trained"


def test_a_folder_that_is_called_as_a_shipped_defence_is_meant_by_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.save_classifier(own := MLP((1, 8, 8), (7,)), tmp_path / "mnist" / weights.CLASSIFIER)
    monkeypatch.chdir(tmp_path)
    assert weights.digest(load_target("./mnist/classifier")) == weights.digest(own)


def test_a_path_of_windows_is_split_as_windows_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "os", SimpleNamespace(path=ntpath, sep="\\", altsep="/"))
    for name in ("C:\\out\\mine\\classifier\\", "C:\\out\\mine/classifier/"):
        assert loading._parts_of(name) == ("C:\\out\\mine", "classifier")


@pytest.mark.parametrize("name", [r"C:\x/classifier", "C:/x", r"C:\x", "http://host/x", "run:3/classifier"])
def test_what_follows_a_colon_is_a_function_only_without_separators(name: str) -> None:
    with pytest.raises(WeightsError, match="no defence"):
        load_target(name)


def test_a_folder_of_that_name_is_a_part_until_it_has_weights(tmp_path: Path) -> None:
    """`carso harden` leaves the audit of N in a folder `classifier` beside N."""
    own, other, images = MLP((1, 8, 8), (7,)).eval(), MLP((1, 8, 8), (7,)).eval(), torch.rand(3, 1, 8, 8)
    weights.save_classifier(own, tmp_path / weights.CLASSIFIER)
    (folder := tmp_path / "classifier").mkdir()
    (folder / "audit.json").write_text("{}")
    assert torch.equal(load_target(str(folder))(images), own(images))
    weights.save_classifier(other, folder / weights.CLASSIFIER)
    assert torch.equal(load_target(f"{folder}/classifier")(images), other(images))


def test_the_undefended_classifier_may_be_of_the_users_own(tmp_path: Path) -> None:
    own, undefended = (nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3)) for _ in range(2))
    weights.save(CARSO(own, Purifier((1, 8, 8), 8)), tmp_path)
    weights.save_classifier(undefended, tmp_path / weights.UNDEFENDED, {"trained": True})
    assert undefended_of(str(tmp_path)) is None
    found = (
        undefended_of(str(tmp_path), own),
        load_target(f"{tmp_path}/undefended", own),
        load_transfers(str(tmp_path), "mnist", (), own)["undefended"],
    )
    assert {weights.digest(each) for each in found} == {weights.digest(undefended)}
    with pytest.raises(WeightsError, match="--factory"):
        load_target(f"{tmp_path}/undefended")


@pytest.mark.parametrize("part", ["classifier", "undefended"])
def test_a_shipped_defence_has_its_classifiers(part: str) -> None:
    assert isinstance(load_target(f"mnist-thesis/{part}"), MLP)


@pytest.mark.parametrize("name", ["x" * 300, "x" * 9000, "a\0b", "x" * 9000 + "/classifier"])
def test_a_name_that_no_file_can_have_is_no_defence(name: str) -> None:
    with pytest.raises(WeightsError, match="no defence"):
        load_target(name)


@pytest.mark.parametrize("name", ["x" * 300 + ":y", ":", "a\0b:c"])
def test_a_name_that_no_module_can_have_is_no_factory(name: str) -> None:
    with pytest.raises(ModelError, match="cannot be imported"):
        load_target(name)
