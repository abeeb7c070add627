"""The clock: the only file that asks what time it is.

Two readings, as everywhere: the wall clock for what people plan (alarms, creation times), which may
be set forward and back, and the steady clock for how long something takes. A clock also waits,
since a virtual one must know what waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import anyio

# The clock that goes on while a machine sleeps, where there is one.
_LEASES = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))


def lease_clock() -> float:
    """Seconds since an arbitrary start, by which a lease runs out: no test's clock, and those in
    which the machine sleeps count. Others take over meanwhile."""
    return time.monotonic() if _LEASES is None else time.clock_gettime(_LEASES)


@runtime_checkable
class Clock(Protocol):
    """Give one as `clock=` to `durable.open` to decide what time it is."""

    def now(self) -> float:
        """POSIX seconds of the wall clock."""

    def steady(self) -> float:
        """Seconds that never go back, from an arbitrary start."""

    async def sleep(self, seconds: float) -> None:
        """Return when *seconds* of the steady clock have passed. May return early."""

    def watch(self, is_busy: Callable[[], bool]) -> Callable[[], None]:
        """Give the clock a function that returns whether work is under way that no task shows, such
        as a commit in its thread; returns how to take that back. A real clock can ignore it."""


@runtime_checkable
class NotifyingClock(Clock, Protocol):
    """A clock that notifies when its wall clock is set, so that it need not be polled."""

    def when_set(self, on_set: Callable[[], None]) -> Callable[[], None]:
        """Call *on_set* each time that it is set; returns how to take that back."""


class SystemClock:
    """The clock of this machine."""

    @staticmethod
    def now() -> float:
        # Looked up at each call: libraries that freeze the time in tests put theirs in its place,
        # and a program's alarms are set by the time that the program sees.
        return time.time()

    # Not looked up: how long something takes is not for those libraries to say.
    steady: staticmethod[[], float] = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)

    def watch(self, is_busy: Callable[[], bool]) -> Callable[[], None]:
        return lambda: None
