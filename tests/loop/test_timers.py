"""The timers of a runtime serve for as long as it is open."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import anyio

from durable._loop.timers import Timers
from durable._model.clock import SystemClock


class JumpyClock(SystemClock):
    """Time passes between any two looks at it, as on a machine that has much to do."""

    def __init__(self) -> None:
        self._readings = itertools.count()

    def steady(self) -> float:  # type: ignore[override]
        return float(next(self._readings))

    def watch(self, is_busy: Callable[[], bool]) -> Callable[[], None]:
        return lambda: None


async def test_a_timer_that_falls_due_while_the_wait_begins_is_served() -> None:
    """Between the look for what is due and the sleep until the next one time may pass it."""
    timers = Timers(JumpyClock())
    served = anyio.Event()
    timers.call_at(2.5, served.set)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(timers.run)
            await served.wait()
            group.cancel_scope.cancel()

    assert timers.next_due_s() == math.inf
