"""Whether a task that lets others run for a round does so because its author said `sleep(0)`.

That is a wait on the outside, if a short one. Libraries let others run for reasons of their own, in
the middle of taking a lock that is free or leaving an empty task group; that is not such a wait.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from types import CodeType
from typing import Any

import anyio

_ANYIO_ON_ASYNCIO = "anyio._backends._asyncio"


def is_sleeping(coro: Any) -> bool:
    """Whether *coro* waits in a `sleep` of asyncio, Trio or anyio that was called as such."""
    trio_sleep = getattr(sys.modules.get("trio"), "sleep", None)  # None while it is imported, too
    sleeps = {anyio.sleep.__code__, getattr(trio_sleep, "__code__", None)}
    before = ""
    for code, module in chain(coro):
        if code in sleeps:
            return True
        if code is asyncio.sleep.__code__:
            # anyio makes its checkpoints of it.
            return before != _ANYIO_ON_ASYNCIO
        before = module
    return False


def chain(coro: Any) -> Iterator[tuple[CodeType, str]]:
    """The code that *coro* stands in, with its module, from the outermost call to the inmost."""
    while coro is not None:
        frame = getattr(coro, "cr_frame", None) or getattr(coro, "gi_frame", None)
        if frame is not None:
            yield frame.f_code, frame.f_globals.get("__name__", "")
        coro = getattr(coro, "cr_await", None) or getattr(coro, "gi_yieldfrom", None)
