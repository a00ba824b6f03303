from pathlib import Path

import pytest

from carso import data
from carso.errors import DataError


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "mnsit",
            r"mnsit: neither a folder nor a dataset's name \(mnist, .*, cifar100\); did you mean 'mnist'\?",
        ),
        ("MNIST", r"did you mean 'mnist'"),
        ("fashon-mnist", r"did you mean 'fashion-mnist'"),
        ("nothing/like/it", r"neither a folder nor a dataset's name \(mnist, fashion-mnist, cifar10, cifar100\)$"),
        ("CIFAR-10", r"did you mean 'cifar10' or 'cifar100'"),
        ("cifar", r"did you mean 'cifar10' or 'cifar100'"),
        (Path("mnist-of-mine"), "mnist-of-mine: neither a folder"),
    ],
)
def test_an_unknown_name_gets_suggestions(
    source: str | Path, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=message):
        data.load(source, "test")


def test_a_file_is_no_dataset(tmp_path: Path) -> None:
    for name, message in (("a.txt", r"a\.txt: is a file, but"), ("p.npz", "pairs are read by load_pairs")):
        (tmp_path / name).touch()
        with pytest.raises(DataError, match=message):
            data.load(tmp_path / name)


def test_a_path_object_is_never_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="mnist: neither a folder"):
        data.load(Path("mnist"))
