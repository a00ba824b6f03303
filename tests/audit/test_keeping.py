"""The state of a budget is read back as it was written, or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.audit.audits import EPS
from tests.audit.conftest import cut_down
from torch import Tensor, nn

from carso.audit import audit, read_audit, read_worst
from carso.audit.keeping import KIND, left, path_of, read
from carso.audit.state import State
from carso.data import Dataset
from carso.errors import RunError
from carso.storage.tensors import read_tensors, write_tensors
from carso.types import Budget

BUDGET = Budget("Linf", EPS)


@pytest.fixture(scope="module")
def finished(plain: nn.Module, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of 20 images."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        cut_down(monkeypatch)
        folder = tmp_path_factory.mktemp("finished")
        audit(plain, dataset, effort="quick", eps=(EPS,), n=20, out=folder)
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoiled."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def reread(folder: Path, dataset: Dataset) -> State:
    _, about = read_tensors(path_of(folder, BUDGET), KIND)
    state = read(folder, BUDGET, about["identity"], dataset.images[:20])
    assert state is not None
    return state


def test_it_is_what_it_was(folder: Path, dataset: Dataset) -> None:
    state, (found,) = reread(folder, dataset), read_audit(folder).budgets
    assert state.diagnostics == found.diagnostics
    assert list(state.entries) == [attack.name for attack in found.attacks]
    assert int(state.standing().sum()) == found.worst_case.correct
    assert [entry.non_finite for entry in state.entries.values()] == [attack.non_finite for attack in found.attacks]


def test_what_it_left_is_known_image_by_image(folder: Path, dataset: Dataset) -> None:
    found = left(folder, BUDGET)
    assert torch.equal(found, reread(folder, dataset).standing())
    assert int(found.sum()) == read_audit(folder).budgets[0].worst_case.correct
    with pytest.raises(RunError, match="delete it to audit this budget again"):
        left(folder / "state", BUDGET)


def test_the_worst_images_are_got_at_with_labels_and_places(
    plain: nn.Module, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Class by class, as in folders: an audit takes the images in turns, and their places say which they are."""
    cut_down(monkeypatch)
    by_class = dataset[dataset.required_labels.argsort(stable=True)]
    found = audit(plain, Dataset("sorted", by_class.images, by_class.labels, dataset.classes), effort="quick",
                  eps=(EPS,), n=20, out=tmp_path).budgets[0]  # fmt: skip
    worst = read_worst(str(tmp_path), BUDGET)
    assert not torch.equal(worst.places, torch.arange(20))
    clean = by_class.images[worst.places]
    assert (worst.images - clean).abs().max() <= EPS
    assert torch.equal(worst.labels, by_class.required_labels[worst.places])
    assert int(worst.standing.sum()) == found.worst_case.correct < 20
    right = plain(worst.images).argmax(1) == worst.labels
    assert torch.equal(right[worst.standing | ~right], worst.standing[worst.standing | ~right])


def test_a_state_without_labels_is_known_by_what_it_left_alone(folder: Path) -> None:
    path = path_of(folder, BUDGET)
    tensors, about = read_tensors(path, KIND)
    assert torch.equal(tensors.pop("places"), torch.arange(20))
    write_tensors(path, tensors, about)
    assert len(left(folder, BUDGET)) == 20
    with pytest.raises(RunError, match="from before it had labels"):
        read_worst(folder, BUDGET)


def test_a_state_of_an_earlier_rule_is_gone_on_with(folder: Path, dataset: Dataset) -> None:
    _, about = read_tensors(path_of(folder, BUDGET), KIND)
    images = dataset.images[:20]
    with pytest.raises(RunError, match="another target"):
        read(folder, BUDGET, "today's", images, before="another")
    found = read(folder, BUDGET, "today's", images, before=about["identity"])
    assert found is not None
    assert found.entries.keys() == {entry["about"]["name"] for entry in about["entries"]}


def test_nothing_is_no_state(tmp_path: Path, dataset: Dataset) -> None:
    assert read(tmp_path, BUDGET, "", dataset.images) is None


Spoil = Callable[[dict[str, Tensor], dict[str, Any]], object]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, _: t.pop("worst"), "lacks the tensor 'worst'"),
        (lambda t, _: t.pop("pgd/right"), "lacks the tensor 'pgd/right'"),
        (lambda t, _: t.update(clean=t["clean"][:5]), r"'clean' is torch.int64 \(5,\), not torch.int64 \(20,\)"),
        (lambda t, _: t.update(worst=t["worst"].double()), "'worst' is torch.float64"),
        (lambda t, _: t.update(worst=t["worst"] + 1), "'worst' leaves the range from 0 to 1"),
        (lambda t, _: t.update(worst=t["worst"] * torch.nan), "'worst' leaves the range"),
        (lambda t, _: t.update({"pgd/right": t["pgd/right"] + 7}), "'pgd/right' leaves the range from 0 to 1"),
        (lambda t, _: t.update({"pgd/attacked": t["pgd/attacked"].long()}), "'pgd/attacked' is torch.int64"),
        (lambda t, _: t.update(labels=t["labels"] - 100), "'labels' leaves the range from 0"),
        (lambda _, a: a.pop("k"), "k: Field required"),
        (lambda _, a: a.update(k="1"), "k: Input should be a valid integer, not '1'"),
        (lambda _, a: a.update(identity=7), "identity: Input should be a valid string, not 7"),
        (lambda _, a: a["tuning"].update(eot=True), r"tuning\.eot: Input should be a valid integer, not True"),
        (lambda _, a: a["tuning"].update(loss="dlr"), r"tuning\.loss: .*, not 'dlr'"),
        (lambda _, a: a["diagnostics"].update(flat=101), r"diagnostics\.flat: .*, not 101"),
        (lambda _, a: a["entries"][0].pop("about"), r"entries\[0\]\.about: Field required"),
        (lambda _, a: a["entries"][2]["gains"].append(-1), r"entries\[2\]\.gains\[1\]: .*, not -1"),
        (lambda _, a: a["entries"][0]["about"].update(kind="x" * 5000), r"entries\[0\]\.about\.kind: .*…"),
        (lambda _, a: a.update(entries=None), "entries: Input should be a valid array, not None"),
    ],
)
def test_damage_is_named_with_what_to_do(spoil: Spoil, message: str, folder: Path, dataset: Dataset) -> None:
    path = path_of(folder, BUDGET)
    tensors, about = read_tensors(path, KIND)
    identity = about["identity"]
    spoil(tensors, about)
    write_tensors(path, tensors, about)
    with pytest.raises(RunError, match=rf"{path.name}: {message}.*; delete it to audit this budget again$") as error:
        read(folder, BUDGET, identity, dataset.images[:20])
    assert len(str(error.value)) < 500


def test_a_file_of_another_kind(folder: Path, dataset: Dataset) -> None:
    write_tensors(path_of(folder, BUDGET), {}, {"kind": "classifier"})
    with pytest.raises(RunError, match="is of the kind classifier, not audit state; delete it to audit"):
        read(folder, BUDGET, "", dataset.images)


def test_of_other_images(folder: Path, dataset: Dataset) -> None:
    _, about = read_tensors(path_of(folder, BUDGET), KIND)
    with pytest.raises(RunError, match=r"'clean' is torch.int64 \(20,\), not torch.int64 \(60,\)"):
        read(folder, BUDGET, about["identity"], dataset.images)
