"""Labels mean the same on both sides, or the data set is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from carso.data.dataset import Dataset
from carso.data.labelled import check_shape, first, matched, names_of
from carso.errors import DataError, ModelError

IMAGES = torch.linspace(0, 1, 4 * 4).reshape(4, 1, 2, 2)
DIGITS = tuple("0123456789")


def dataset(classes: tuple[str, ...], *labels: int) -> Dataset:
    return Dataset("mine", IMAGES[: len(labels)], torch.tensor(labels), classes)


@pytest.mark.parametrize(
    ("classes", "labels", "known", "names", "expected", "called"),
    [
        (tuple("456789"), (0, 1, 5), 10, None, (4, 5, 9), DIGITS),
        (tuple("012345"), (0, 1, 5), 10, None, (0, 1, 5), DIGITS),
        (tuple("456789"), (0, 1, 5), 6, None, (0, 1, 5), tuple("456789")),
        (("cat", "dog"), (0, 1), 2, None, (0, 1), ("cat", "dog")),
        (("cat", "dog"), (0, 1), 3, ("dog", "eel", "cat"), (2, 0), ("dog", "eel", "cat")),
        (("background", "cat", "dog"), (1, 2), 2, ("dog", "cat"), (1, 0), ("dog", "cat")),
        (DIGITS[:3], (0, 2), 3, ("dog", "eel", "cat"), (0, 2), ("dog", "eel", "cat")),
        (DIGITS, (0, 9), 12, None, (0, 9), (*DIGITS, "10", "11")),
        (tuple(map(str, range(11))), (0, 9), 10, None, (0, 9), DIGITS),
    ],
)
def test_labels_become_the_numbers_of_the_models_classes(
    classes: tuple[str, ...],
    labels: tuple[int, ...],
    known: int,
    names: tuple[str, ...] | None,
    expected: tuple[int, ...],
    called: tuple[str, ...],
) -> None:
    found = matched(dataset(classes, *labels), known, names)
    assert found.required_labels.tolist() == list(expected)
    assert found.classes == called
    assert torch.equal(found.images, IMAGES[: len(labels)])


@pytest.mark.parametrize(
    ("classes", "labels", "known", "names", "message"),
    [
        (
            tuple("abcdef"),
            (0, 5),
            10,
            None,
            r"has 6 classes \('a', 'b', .*\), the model 10 without names, .* give the model the attribute class_names",
        ),
        (tuple("abcdefghij"), (0, 5), 12, None, "which is which is unknown"),
        (("cat", "owl"), (0, 1), 2, ("dog", "cat"), "has the classes 'owl', the model knows 'dog', 'cat'"),
        (tuple("456789"), (0, 1), 3, ("x", "y", "z"), "the model knows 'x', 'y', 'z'"),
        (DIGITS, (0, 9), 5, None, "has the label 9, the model knows the classes 0 to 4"),
        (DIGITS, (0, 9), 2, ("x", "y"), "has the label 9, the model knows the classes 0 to 1"),
    ],
)
def test_what_cannot_fit_is_refused(
    classes: tuple[str, ...], labels: tuple[int, ...], known: int, names: tuple[str, ...] | None, message: str
) -> None:
    with pytest.raises(DataError, match=f"^mine: .*{message}"):
        matched(dataset(classes, *labels), known, names)


def test_without_labels_there_is_nothing_to_match() -> None:
    bare = Dataset("bare", IMAGES)
    assert matched(bare, 2, ("x", "y")) is bare


def test_a_model_may_say_what_its_classes_are_called() -> None:
    assert names_of(SimpleNamespace(class_names=["cat", 3])) == ("cat", "3")
    assert names_of(SimpleNamespace()) is None


def test_as_many_names_as_classes() -> None:
    with pytest.raises(ModelError, match="names 2 classes and tells 3 apart; mend its class_names"):
        matched(dataset(("x", "y"), 0, 1), 3, ("x", "y"))


def test_images_have_the_shape_that_the_defence_takes() -> None:
    check_shape(dataset(("x", "y"), 0, 1), (1, 2, 2))
    with pytest.raises(DataError, match=r"mine: its images are \(1, 2, 2\), the defence takes \(3, 2, 2\)"):
        check_shape(dataset(("x", "y"), 0, 1), (3, 2, 2))
    with pytest.raises(
        DataError, match=r"takes \(3, 4, 2\); pictures of a folder .* by --size 4x2 --channels 3, or in"
    ):
        check_shape(dataset(("x", "y"), 0, 1), (3, 4, 2))


def test_the_first_images_are_as_many_as_asked_for() -> None:
    four = dataset(("x", "y"), 0, 1, 1, 0)
    assert [len(first(four, n, usual)[0]) for n, usual in ((2, 3), (None, 3), (None, 9), (None, None))] == [2, 3, 4, 4]
    assert first(four, 2)[1].tolist() == [0, 1]
    with pytest.raises(DataError, match="mine: has 4 images, fewer than the 5 asked for"):
        first(four, 5)
    with pytest.raises(DataError, match="bare: has no labels"):
        first(Dataset("bare", IMAGES))


def test_names_that_several_classes_have_say_nothing_of_others() -> None:
    birds = ("crane", "dog", "crane")
    same = matched(dataset(birds, 0, 1, 2, 2), 3, birds)
    assert same.required_labels.tolist() == [0, 1, 2, 2]
    with pytest.raises(DataError, match="several classes are called 'crane', so which is which is unknown"):
        matched(dataset(birds, 0, 1, 2), 3, ("dog", "crane", "eel"))
    with pytest.raises(DataError, match="several classes are called 'crane'"):
        matched(dataset(("dog", "crane"), 0, 1), 3, birds)
