import pickle

import pytest
import torch

from carso.errors import CarsoError, DataError, NoGradientError, NonFiniteError
from carso.processes import group


def test_whoever_is_alone_does_everything() -> None:
    with group.joined():
        assert (group.count(), group.rank()) == (1, 0)
        assert list(group.shared([1, 2, 3], lambda unit: 2 * unit)) == [2, 4, 6]
        assert group.by_first(lambda: 7) == 7


def test_work_that_one_process_does_is_done_when_it_is_asked_for() -> None:
    done: list[int] = []
    steps = group.shared([1, 2, 3], done.append)
    next(steps)
    assert done == [1]


def test_only_a_whole_invitation_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in group.TOLD:
        monkeypatch.setenv(name, "2")
    assert group.started() == 2
    monkeypatch.delenv("MASTER_ADDR")
    assert group.started() == 1


@pytest.mark.parametrize(
    "error", [DataError("x: is empty"), NoGradientError(), NonFiniteError(torch.ones(1, 1, 2, 2), 1, 3)]
)
def test_errors_arrive_as_they_were_said(error: CarsoError) -> None:
    arrived = pickle.loads(pickle.dumps(error))
    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert vars(arrived).keys() == vars(error).keys()
