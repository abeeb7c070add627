"""Waits until nothing more happens: every task waits, and no thread of the library is at work."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import Callable
from weakref import WeakSet

import anyio
import anyio.lowlevel

# Callbacks of the loop are not tasks and cannot be seen; they have run after this many rounds in
# which no task stirred. The input gate counts eight of them before it goes on, the search for
# deadlocks takes some more, and one may follow the other several times.
QUIET_ROUNDS = 64
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
    _SETTLING.add(me)
    try:
        quiet = 0
        while quiet < QUIET_ROUNDS:
            await asyncio.sleep(0)
            if is_busy():
                await asyncio.sleep(THREAD_POLL_S)
                quiet = 0
            elif any(_may_run(task) for task in asyncio.all_tasks() - set(_SETTLING)):
                quiet = 0
            else:
                quiet += 1
    finally:
        _SETTLING.discard(me)


def _may_run(task: asyncio.Task[object]) -> bool:
    waiter = getattr(task, "_fut_waiter", None)
    return waiter is None or waiter.done()


async def _settle_trio(is_busy: Callable[[], bool]) -> None:
    wait_all_tasks_blocked = importlib.import_module("trio.testing").wait_all_tasks_blocked
    while True:
        await wait_all_tasks_blocked()
        if not is_busy():
            return
        await anyio.sleep(THREAD_POLL_S)
