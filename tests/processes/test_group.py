import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path

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


def test_whoever_is_alone_does_every_unit() -> None:
    done: list[int] = []
    assert list(group.divided([3, 1, 2], done.append)) == [1, 2, 3]
    assert done == [3, 1, 2]


DIVIDE = """
import os, sys, time
import torch
from carso.errors import DataError
from carso.processes import group

def work(unit):
    assert (group.count(), group.by_first(lambda: unit)) == (1, unit)
    if unit == int(sys.argv[1]):
        raise DataError(f"unit {unit} is bad")
    time.sleep(0.3 if unit in (0, 1) else 0.01)
    with open(f"{unit}", "a") as done:
        done.write(f"{os.getpid()} ")

children = []
for rank in range(2):
    children.append(os.fork())
    if not children[-1]:
        os.environ["RANK"] = str(rank)
        with group.joined():
            for units in (range(6), range(6, 8)):
                try:
                    told = list(group.divided(units, work))
                    assert told == sorted(told) and all(1 <= done <= len(units) for done in told)
                except DataError as error:
                    open(f"error-{rank}", "w").write(str(error))
                    break
                open(f"seen-{rank}-{len(units)}", "w").write(" ".join(sorted(n for n in os.listdir() if n.isdigit())))
        os._exit(0)
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
"""


def divide(folder: Path, bad: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DIVIDE, str(bad)]
    done = subprocess.run(command, cwd=folder, env={**os.environ, **told}, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_each_unit_is_done_once_by_one_that_is_alone_and_nobody_goes_on_before(tmp_path: Path) -> None:
    divide(tmp_path, bad=-1)
    by = {unit: (tmp_path / str(unit)).read_text().split() for unit in range(8)}
    assert all(len(some) == 1 for some in by.values())
    assert len({some[0] for some in by.values()}) == 2
    for rank in range(2):
        assert (tmp_path / f"seen-{rank}-6").read_text().split()[:6] == list("012345")
        assert (tmp_path / f"seen-{rank}-2").read_text().split() == list("01234567")


def test_a_bad_unit_ends_the_work_of_all_and_none_is_begun_after_it(tmp_path: Path) -> None:
    divide(tmp_path, bad=0)
    assert {(tmp_path / f"error-{rank}").read_text() for rank in range(2)} == {"unit 0 is bad"}
    assert not any((tmp_path / str(unit)).exists() for unit in (0, *range(2, 8)))


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
