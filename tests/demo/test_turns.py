"""Who is let in, who waits, and in which order turns are given."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

pytest.importorskip("starlette")

from carso.demo.turns import KEPT, LONGEST, Turns
from carso.web.refusal import FullError


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(5):
        await asyncio.sleep(0)


def order(story: Callable[[Turns, list[str]], Coroutine[Any, Any, None]]) -> list[str]:
    """What a story writes down."""
    told: list[str] = []
    asyncio.run(asyncio.wait_for(story(Turns(), told), 20))
    return told


async def take(turns: Turns, told: list[str], visitor: str, until: asyncio.Event | None = None) -> None:
    async with turns.turn(visitor):
        told.append(visitor)
        if until is not None:
            await until.wait()


def test_who_comes_first_goes_first_and_then_behind_the_others() -> None:
    async def story(turns: Turns, told: list[str]) -> None:
        release = asyncio.Event()
        tasks = [asyncio.create_task(take(turns, told, "first", release))]
        await settle()
        for visitor in ("greedy", "greedy", "greedy", "second", "third", "second"):
            tasks.append(asyncio.create_task(take(turns, told, visitor)))
            await settle()
        release.set()
        await asyncio.gather(*tasks)

    assert order(story) == ["first", "greedy", "second", "third", "greedy", "second", "greedy"]


def test_a_newcomer_waits_for_one_round_of_each_vote_at_most() -> None:
    async def story(turns: Turns, told: list[str]) -> None:
        async def vote(visitor: str) -> None:
            for _ in range(20):
                await take(turns, told, visitor)
                await asyncio.sleep(0)

        votes = [asyncio.create_task(vote(visitor)) for visitor in "abc"]
        while len(told) < 15:
            await asyncio.sleep(0)
        told.append("came")
        await take(turns, told, "newcomer")
        await asyncio.gather(*votes)

    told = order(story)
    assert told.index("newcomer") - told.index("came") <= 4
    assert all(told.count(visitor) == 20 for visitor in "abc")


def test_places_are_counted_from_one_and_move_up() -> None:
    async def story(turns: Turns, told: list[str]) -> None:
        release = {visitor: asyncio.Event() for visitor in "abc"}
        tasks = []
        for visitor in "abc":
            tasks.append(asyncio.create_task(take(turns, [], visitor, release[visitor])))
            await settle()
        told += [f"{visitor}{turns.place(visitor)}" for visitor in "abcd"]
        release["a"].set()
        await settle()
        told += [f"{visitor}{turns.place(visitor)}" for visitor in "abc"]
        release["b"].set()
        release["c"].set()
        await asyncio.gather(*tasks)

    assert order(story) == ["a0", "b1", "c2", "d0", "a0", "b0", "c1"]


@pytest.mark.parametrize("called", [False, True], ids=["in the line", "as its turn comes"])
def test_who_leaves_gives_up_the_place(called: bool) -> None:
    async def story(turns: Turns, told: list[str]) -> None:
        release = asyncio.Event()
        first = asyncio.create_task(take(turns, told, "first", release))
        await settle()
        leaving = asyncio.create_task(take(turns, told, "leaving"))
        await settle()
        staying = asyncio.create_task(take(turns, told, "staying"))
        await settle()
        if called:
            release.set()
            while turns.place("leaving"):
                await asyncio.sleep(0)
        leaving.cancel()
        release.set()
        await asyncio.gather(first, staying)
        assert leaving.cancelled()
        assert not turns.line
        assert not turns.busy

    assert order(story) == ["first", "staying"]


def test_those_who_leave_as_the_turn_passes_neither_take_nor_give_one() -> None:
    async def story(turns: Turns, told: list[str]) -> None:
        one, two = asyncio.Event(), asyncio.Event()
        tasks = []
        for visitor, until in (("first", one), ("gone", None), ("gone", None), ("second", two), ("third", None)):
            tasks.append(asyncio.create_task(take(turns, told, visitor, until)))
            await settle()
        one.set()
        for gone in tasks[1:3]:
            gone.cancel()
        await settle()
        assert told == ["first", "second"]
        two.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        await take(turns, told, "last")

    assert order(story) == ["first", "second", "third", "last"]


def test_one_computation_runs_at_a_time_even_if_its_visitor_leaves() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    async def story(turns: Turns, told: list[str]) -> None:
        async def visit(visitor: str) -> None:
            with turns.admit(visitor) as visit:
                await visit.run(work)

        tasks = [asyncio.create_task(visit(str(k))) for k in range(8)]
        await asyncio.sleep(0.03)
        tasks[0].cancel()
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert turns.admitted == 0
        assert [task.cancelled() for task in tasks[2:]] == [False] * 6

    order(story)
    assert most == 1


def test_as_many_are_let_in_as_may_be_and_the_next_is_told_when_to_come_back() -> None:
    turns = Turns(capacity=3)
    turns.stay = 7.5
    with turns.admit("a"), turns.admit("b"):
        with turns.admit("c"), pytest.raises(FullError, match="come back in 8 s") as full, turns.admit("d"):
            pass
        assert full.value.seconds == 8
        with turns.admit("d"):
            assert turns.admitted == 3
    assert turns.admitted == 0


def may_enter(turns: Turns, visitor: str) -> bool:
    try:
        with turns.admit(visitor):
            return True
    except FullError:
        return False


def test_who_was_told_to_come_back_goes_before_those_who_come_later() -> None:
    turns = Turns(capacity=4)
    with turns.admit("a"), turns.admit("b"):
        with turns.admit("c"), turns.admit("d"):
            assert [may_enter(turns, visitor) for visitor in ("first", "second", "third")] == [False] * 3
        entered = [may_enter(turns, visitor) for visitor in ("later", "third", "second", "first")]
        assert entered == [False, False, True, True]


def test_half_of_the_places_are_kept_at_most() -> None:
    turns = Turns(capacity=4)
    with turns.admit("a"):
        with turns.admit("b"), turns.admit("c"), turns.admit("d"):
            assert not any(may_enter(turns, f"told {k}") for k in range(9))
            assert list(turns.kept) == [f"told {k}" for k in range(4)]
        assert may_enter(turns, "new")


def test_a_place_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    turns = Turns(capacity=2)
    with turns.admit("a"):
        with turns.admit("b"):
            assert not may_enter(turns, "told")
        clock = turns.wait() + KEPT - 0.5
        assert not may_enter(turns, "new")
        clock += 1
        assert may_enter(turns, "new")


@pytest.mark.parametrize(("stay", "seconds"), [(0.0, 1), (0.2, 1), (19.5, 20), (1e4, LONGEST)])
def test_nobody_is_told_to_come_back_at_once_or_never(stay: float, seconds: int) -> None:
    turns = Turns(capacity=2)
    turns.stay = stay
    assert turns.wait() == seconds


def test_who_is_told_to_come_back_is_told_how_long_the_last_ones_stayed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: clock)
    turns = Turns()
    for _ in range(60):
        with turns.admit("one"):
            clock += 12.0
    assert turns.wait() == 12


def test_what_goes_wrong_in_a_turn_is_told_to_its_visitor_and_passes_the_turn_on() -> None:
    def fail() -> None:
        raise ValueError("wrong")

    async def story(turns: Turns, told: list[str]) -> None:
        with turns.admit("one") as visit:
            with pytest.raises(ValueError, match="wrong"):
                await visit.run(fail)
            told.append(await visit.run(lambda: "right"))

    assert order(story) == ["right"]
