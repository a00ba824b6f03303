"""What messages are made of: near names, first lines, a few of many."""

import pytest

from carso.errors import did_you_mean, few, first_line, in_a_line


@pytest.mark.parametrize(
    ("name", "most", "said"),
    [
        ("minst", 1, "; did you mean 'mnist'?"),
        ("cifar", 3, "; did you mean 'cifar10' or 'cifar100'?"),
        ("cifar", 1, "; did you mean 'cifar10'?"),
        ("something else", 3, ""),
    ],
)
def test_near_names_are_asked_for(name: str, most: int, said: str) -> None:
    assert did_you_mean(name, ("mnist", "cifar10", "cifar100"), most) == said


@pytest.mark.parametrize(
    ("error", "said"), [(ValueError("\n one \n two"), "one "), (ValueError(""), "ValueError"), (KeyError(3), "3")]
)
def test_the_first_line_of_an_error(error: Exception, said: str) -> None:
    assert first_line(error) == said


def test_many_names_end_in_dots() -> None:
    assert few(["a", "b", "c"], 3) == "a, b, c"
    assert few(["a", "b", "c", "d"], 3) == "a, b, c, ..."
    assert few([]) == ""


def test_a_line_has_no_other_and_an_end() -> None:
    assert in_a_line("one\n two\tthree", 9) == "one two …"
