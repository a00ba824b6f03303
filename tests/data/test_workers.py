import multiprocessing
import os
import signal
from concurrent.futures.process import BrokenProcessPool

import pytest

from carso.data import workers
from carso.data.workers import FEW, each
from carso.errors import DataError

SEVERAL = list(range(3 * FEW))


def squared(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def ends_its_process(number: int) -> int:
    if number == FEW:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize("waiting", [1, 100, 10_000])
def test_results_come_in_order_from_several_processes(waiting: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    things = SEVERAL if waiting > 1 else SEVERAL[:FEW]
    found = list(each(squared, things, waiting))
    assert [square for square, _ in found] == [number**2 for number in things]
    assert os.getpid() not in {process for _, process in found}


def test_few_are_done_here() -> None:
    assert {process for _, process in each(squared, range(FEW - 1), 10)} == {os.getpid()}


def test_a_process_that_was_ended_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    with pytest.raises(DataError, match=r"was ended from outside, as happens where memory runs out; free some$"):
        list(each(ends_its_process, SEVERAL, 100))


def test_where_processes_run_the_script_again_its_guard_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(workers, "_context", lambda: multiprocessing.get_context("spawn"))
    monkeypatch.setattr(workers, "ProcessPoolExecutor", broken)
    with pytest.raises(
        DataError, match=r"memory runs out or the script .* lacks `if __name__ == '__main__':`; free some"
    ):
        list(each(ends_its_process, SEVERAL, 100))
