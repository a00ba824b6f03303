from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from carso.data import Dataset
from carso.errors import RecipeError
from carso.training.own import Own
from carso.training.recipe import ClassifierSpec

TRAIN = Dataset("few", torch.rand(4, 1, 2, 2), torch.arange(4) % 3, ("a", "b", "c"))
THEIRS = ClassifierSpec(factory="builtins:network_for_this_test")


def network(classes: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(4, classes)).eval()


class Single(nn.Linear):
    """A network that there is one of."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Single:
        raise TypeError("there is one of this")


def calls(monkeypatch: pytest.MonkeyPatch, *made: nn.Module) -> list[nn.Module]:
    """What the recipe's function returned so far, of these in turn."""
    returned: list[nn.Module] = []
    waiting = iter(made)

    def function() -> nn.Module:
        returned.append(next(waiting))
        return returned[-1]

    monkeypatch.setattr("builtins.network_for_this_test", function, raising=False)
    return returned


def test_a_function_is_called_to_look_and_to_compare_and_for_every_training(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = network()
    returned, own = calls(monkeypatch, *[mine] * 4), Own(THEIRS)
    own.check(TRAIN, trained=True)
    assert len(returned) == 2
    assert own.classes(TRAIN) == 3
    assert own.names(TRAIN) == ("0", "1", "2")
    assert own.module is own.module is not mine
    assert own.lent() is not own.module
    assert len(returned) == 2
    assert own.made() is not own.made()
    assert len(returned) == 4


def test_what_cannot_be_copied_is_made_anew_to_be_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    returned, own = calls(monkeypatch, Single(4, 3), Single(4, 3)), Own(THEIRS)
    assert own.module is returned[0]
    assert own.lent() is returned[1]


def test_other_weights_are_refused_unless_they_are_to_be_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    calls(monkeypatch, network(), network())
    own = Own(THEIRS)
    own.check(TRAIN, trained=False)
    with pytest.raises(RecipeError, match="'builtins:network_for_this_test' returns other weights in every call"):
        own.check(TRAIN, trained=True)


def test_what_is_given_goes_before_the_function_and_is_lent_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    returned, given = calls(monkeypatch, network()), network(5)
    own = Own(THEIRS, given)
    assert own.module is own.lent() is given
    assert own.classes(Dataset("bare", TRAIN.images)) == 5
    assert not returned
    assert own.made() is not given


def test_without_one_the_classes_are_those_of_the_images() -> None:
    own = Own(ClassifierSpec())
    assert own.module is own.made() is own.lent() is None
    assert own.classes(TRAIN) == 3
    assert own.names(TRAIN) == TRAIN.classes
