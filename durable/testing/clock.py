"""A clock that stands still until a test moves it.

It drives all that the runtime does by time: alarms and their retries, eviction, the limits of
critical sections, commits and queues. Code that sleeps by other means (`anyio.sleep`) is not moved.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable

import anyio
import anyio.lowlevel
from attrs import define, field

from .settling import settle

START_S = 1_800_000_000.0  # 2027-01-15T08:00:00Z


@define(eq=False, repr=False)
class VirtualClock:
    """Give it as `clock=`; `await clock.advance(seconds)` lets time pass.

    With *autojump* it moves by itself to the next thing that is due, whenever every task waits.
    """

    autojump: bool = False
    start_s: float = START_S
    _elapsed_s: float = field(default=0.0, init=False)
    _offset_s: float = field(default=0.0, init=False)
    _sleepers: list[tuple[float, int, anyio.Event]] = field(factory=list, init=False)
    _order: itertools.count[int] = field(factory=itertools.count, init=False)
    _settled: list[Callable[[], bool]] = field(factory=list, init=False)
    _when_set: list[Callable[[], None]] = field(factory=list, init=False)
    _is_jumping: bool = field(default=False, init=False)

    def now(self) -> float:
        """POSIX seconds of the wall clock."""
        return self.start_s + self._offset_s + self._elapsed_s

    def steady(self) -> float:
        """Seconds since the clock was made."""
        return self._elapsed_s

    def set_wall_clock(self, posix_s: float) -> None:
        """Set the wall clock, forward or back, as an administrator does; no time passes."""
        self._offset_s = posix_s - self.start_s - self._elapsed_s
        for on_set in list(self._when_set):
            on_set()

    async def sleep(self, seconds: float) -> None:
        """Return when the clock has been moved by *seconds*."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        due_s, order = self._elapsed_s + seconds, next(self._order)
        # A sleeper that is woken earlier is the one that moves the clock from now on.
        while self._elapsed_s < due_s:
            woken = anyio.Event()
            sleeper = (due_s, order, woken)
            heapq.heappush(self._sleepers, sleeper)
            try:
                if self.autojump and not self._is_jumping:
                    await self._jump_until(woken)
                else:
                    await woken.wait()
            finally:
                if sleeper in self._sleepers:
                    self._sleepers.remove(sleeper)
                    heapq.heapify(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Let *seconds* pass: all that falls due on the way happens, in order, each at its time.

        Returns when all consequences have happened too, commits included; it does not wait for
        tasks that wait for something else, such as a held commit or a socket.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(
                f"time goes on, and never to its end; advance() takes seconds >= 0, not {seconds}"
            )
        target_s = self._elapsed_s + seconds
        await self.settle()
        while self._sleepers and self._sleepers[0][0] <= target_s:
            self._wake_next()
            await self.settle()
        self._elapsed_s = target_s
        await self.settle()

    async def settle(self) -> None:
        """Return when everything has been done that can be done at this moment."""
        await settle(self._is_busy)

    def watch(self, is_busy: Callable[[], bool]) -> Callable[[], None]:
        self._settled.append(is_busy)
        return lambda: self._settled.remove(is_busy)

    def when_set(self, on_set: Callable[[], None]) -> Callable[[], None]:
        self._when_set.append(on_set)
        return lambda: self._when_set.remove(on_set)

    def _is_busy(self) -> bool:
        return any(is_busy() for is_busy in self._settled)

    def _wake_next(self) -> None:
        when_s, _, woken = heapq.heappop(self._sleepers)
        self._elapsed_s = max(self._elapsed_s, when_s)
        woken.set()

    async def _jump_until(self, woken: anyio.Event) -> None:
        """Move the clock on behalf of all that sleep, until *woken* is set."""
        self._is_jumping = True
        try:
            while not woken.is_set():
                await self.settle()
                if not woken.is_set():
                    self._wake_next()
        finally:
            self._is_jumping = False
            # Another sleeper has to go on moving the clock.
            other = next((each for _, _, each in self._sleepers if each is not woken), None)
            if other is not None:
                other.set()

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._elapsed_s:g} s, {len(self._sleepers)} sleep>"
