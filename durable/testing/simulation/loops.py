"""Event loops that have no time and no order of their own: a seed decides both.

Which of the tasks that are ready runs first is drawn anew in every round; when none is ready, time
jumps to the next timer. Callbacks keep their order, as the loops promise.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import math
import random
import selectors
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

BACKENDS = ("asyncio", "trio")


class NoInput(selectors.DefaultSelector):
    """Looks at its files only when it may wait: nothing that is simulated comes by a file."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return [] if timeout == 0 else super().select(timeout)


class ShuffledLoop(asyncio.SelectorEventLoop):
    """An asyncio loop that draws the order of its ready tasks."""

    def __init__(self, order: random.Random) -> None:
        super().__init__(NoInput())
        self._order = order
        self._now_s = 0.0
        self._births: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        self._count = itertools.count()

    def time(self) -> float:
        return self._now_s

    def _run_once(self) -> None:
        ready: Any = self._ready  # type: ignore[attr-defined]
        timers: Any = self._scheduled  # type: ignore[attr-defined]
        if ready:
            self._shuffle(ready)
        elif timers and not math.isinf(timers[0].when()):  # a sleep for ever has no end to go to
            self._now_s = max(self._now_s, timers[0].when())
        super()._run_once()  # type: ignore[misc]

    def _shuffle(self, ready: Any) -> None:
        places, steps = [], []
        for place, handle in enumerate(ready):
            task = getattr(handle._callback, "__self__", None)
            if isinstance(task, asyncio.Task):
                places.append(place)
                birth = self._births.get(task)
                if birth is None:
                    birth = self._births[task] = next(self._count)
                steps.append((birth, handle))
        if len(steps) > 1:
            # First an order that is the same in every process: what woke them may have been a set.
            steps.sort(key=lambda step: step[0])
            self._order.shuffle(steps)
            for place, (_, handle) in zip(places, steps, strict=True):
                ready[place] = handle


class Unheard(Exception):
    """Errors that no task waited for; on Trio they end the run by themselves."""


def _described(said: dict[str, Any]) -> str:
    error = said.get("exception")
    trace = traceback.format_exception(error)[-4:] if error is not None else []
    return "".join([said["message"], "\n", *trace])


def run(backend: str, order: random.Random, main: Callable[[], Awaitable[T]]) -> T:
    """The result of `main()`, run on a loop of *backend* that takes its order from *order*."""
    if backend == "trio":
        return _run_trio(order, main)
    loop = ShuffledLoop(order)
    errors: list[str] = []
    loop.set_exception_handler(lambda _, said: errors.append(_described(said)))
    try:
        result: T = loop.run_until_complete(main())
        if errors:
            raise Unheard("; ".join(errors))
        return result
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _run_trio(order: random.Random, main: Callable[[], Awaitable[T]]) -> T:
    # Trio has it all built in, for tests such as these; it only has to be switched on.
    trio = importlib.import_module("trio")
    inside: Any = importlib.import_module("trio._core._run")
    clock = importlib.import_module("trio.testing").MockClock(autojump_threshold=0)
    before = inside._ALLOW_DETERMINISTIC_SCHEDULING, inside._r
    inside._ALLOW_DETERMINISTIC_SCHEDULING, inside._r = True, order
    try:
        result: T = trio.run(main, clock=clock)
    finally:
        inside._ALLOW_DETERMINISTIC_SCHEDULING, inside._r = before
    return result
