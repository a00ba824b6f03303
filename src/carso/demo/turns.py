"""The demo's queue: one computation at a time, the visitors in turn.

    admission   an interaction (a picture, an attack, a vote, a walk) is let in once, or told at once when to come back;
                up to half of the places are kept for those who were told, in the order in which they first came
    turn        one computation of it: the visitor who has waited longest goes first, and behind all others afterwards
    place       how many visitors have their turn before and with this one

A vote takes a turn for each of its rounds, so that a long one keeps nobody waiting, and is never put out half-way.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TypeVar

from carso.web.refusal import FullError

CAPACITY = 128
"""Interactions that are let in together."""

LONGEST = 120
"""Seconds after which to come back, at most."""

KEPT = 10
"""Seconds for which the place of one who does not come back in time is kept."""

T = TypeVar("T")


@dataclass(frozen=True)
class Visit:
    """An interaction that was let in."""

    turns: Turns
    visitor: str

    async def run(self, work: Callable[[], T]) -> T:
        """The work, in the visitor's turn."""
        async with self.turns.turn(self.visitor):
            return await asyncio.get_running_loop().run_in_executor(self.turns.worker, work)


class Turns:
    """Who is let in, who waits, and whose turn it is.

    Args:
        capacity: interactions that are let in together.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity, self.admitted, self.stay, self.busy = capacity, 0, 1.0, False
        self.line: dict[str, deque[asyncio.Future[None]]] = {}
        self.kept: dict[str, float] = {}
        self.worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="turns")

    @contextmanager
    def admit(self, visitor: str) -> Iterator[Visit]:
        """Let an interaction in until it is left.

        Raises:
            FullError: if `capacity` are in already, or will be once those return who were told so before.
        """
        if self.admitted + self._before(visitor) >= self.capacity:
            raise FullError(self._keep(visitor), "visitors")
        self.kept.pop(visitor, None)
        self.admitted += 1
        came = time.monotonic()
        try:
            yield Visit(self, visitor)
        finally:
            self.admitted -= 1
            self.stay += (time.monotonic() - came - self.stay) / 10

    def _before(self, visitor: str) -> int:
        """Places that are kept for others who came before."""
        now = time.monotonic()
        self.kept = {one: until for one, until in self.kept.items() if until > now}
        return min(self.capacity // 2, list(self.kept).index(visitor) if visitor in self.kept else len(self.kept))

    def _keep(self, visitor: str) -> int:
        """Keep a place for the visitor, if not too many are kept already; the seconds in which to come back."""
        seconds = self.wait()
        if visitor in self.kept or len(self.kept) < self.capacity:
            self.kept[visitor] = time.monotonic() + seconds + KEPT
        return seconds

    def wait(self) -> int:
        """Seconds in which those that are let in will be through, as long as the last ones stayed; up to `LONGEST`."""
        return min(LONGEST, max(1, math.ceil(self.stay)))

    def place(self, visitor: str) -> int:
        """The visitor's place in the line, counted from 1; 0 if they do not wait."""
        return next((place for place, one in enumerate(self.line, 1) if one == visitor), 0)

    @asynccontextmanager
    async def turn(self, visitor: str) -> AsyncIterator[None]:
        """Wait for the visitor's turn, and pass it on afterwards."""
        if self.busy:
            await self._wait(visitor)
        self.busy = True
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, visitor: str) -> None:
        call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.line.setdefault(visitor, deque()).append(call)
        try:
            await call
        except asyncio.CancelledError:
            self._leave(visitor, call)
            raise

    def _leave(self, visitor: str, call: asyncio.Future[None]) -> None:
        """Give up a place in the line, or the turn itself."""
        calls = self.line.get(visitor, deque())
        if call in calls:
            calls.remove(call)
        elif not call.cancelled():
            self._pass_on()
        if not calls:
            self.line.pop(visitor, None)

    def _pass_on(self) -> None:
        """Call whoever has waited longest; `busy` stays until they come, so that nobody slips in."""
        self.busy = False
        while self.line and not self.busy:
            call = self._first()
            if not call.cancelled():
                call.set_result(None)
                self.busy = True

    def _first(self) -> asyncio.Future[None]:
        """The first call of the line; its visitor's further ones go to the end."""
        visitor, calls = next(iter(self.line.items()))
        del self.line[visitor]
        call = calls.popleft()
        if calls:
            self.line[visitor] = calls
        return call
