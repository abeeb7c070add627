"""Waits until nothing more happens: every task waits, and no thread of the library is at work."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections import deque
from collections.abc import Callable
from weakref import WeakSet

import anyio
import anyio.lowlevel

# Callbacks of the loop are not tasks. Where the loop shows what is ready, two rounds in which
# nothing is are enough. A callback that calls itself for ever (anyio has one, while it cancels what
# does not end) counts as still after so many rounds in which no task stirred: the input gate counts
# eight before it goes on, the search for deadlocks takes some more, and one may follow the other.
EMPTY_ROUNDS = 2
QUIET_ROUNDS = 64
# Where the loop does not show it, as uvloop. More of them would take longer than a task sleeps that
# looks every millisecond whether something is so.
UNSEEN_ROUNDS = 16
THREAD_POLL_S = 0.0005
# Tasks in `settle` themselves, so that two of them do not wait for each other.
_SETTLING: WeakSet[asyncio.Task[object]] = WeakSet()


async def settle(is_busy: Callable[[], bool]) -> None:
    """Return when every other task waits and *is_busy* returns False."""
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        await _settle_trio(is_busy)
    else:
        await _settle_asyncio(is_busy)


async def _settle_asyncio(is_busy: Callable[[], bool]) -> None:
    me = asyncio.current_task()
    assert me is not None
    ready: deque[asyncio.Handle] | None = getattr(asyncio.get_running_loop(), "_ready", None)
    rounds = UNSEEN_ROUNDS if ready is None else QUIET_ROUNDS
    _SETTLING.add(me)
    try:
        quiet = empty = 0
        while quiet < rounds and empty < EMPTY_ROUNDS:
            await asyncio.sleep(0)
            if is_busy():
                await asyncio.sleep(THREAD_POLL_S)
                quiet = empty = 0
            elif any(_may_run(task) for task in asyncio.all_tasks() - set(_SETTLING)):
                quiet = empty = 0
            else:
                quiet += 1
                is_empty = ready is not None and all(_is_settling(handle) for handle in ready)
                empty = empty + 1 if is_empty else 0
    finally:
        _SETTLING.discard(me)


def _may_run(task: asyncio.Task[object]) -> bool:
    waiter = getattr(task, "_fut_waiter", None)
    return waiter is None or waiter.done()


def _is_settling(handle: asyncio.Handle) -> bool:
    """Whether it is the next step of another task that settles."""
    task = getattr(getattr(handle, "_callback", None), "__self__", None)
    return isinstance(task, asyncio.Task) and task in _SETTLING


async def _settle_trio(is_busy: Callable[[], bool]) -> None:
    wait_all_tasks_blocked = importlib.import_module("trio.testing").wait_all_tasks_blocked
    while True:
        await wait_all_tasks_blocked()
        if not is_busy():
            return
        await anyio.sleep(THREAD_POLL_S)
