"""Work that goes on after a Worker's response: the arguments of `waitUntil`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from .promises import settled

log: logging.Logger = logging.getLogger("durable")


class Background:
    """The unfinished work of one Worker."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Awaitable[object]) -> None:
        """Run *work* to its end; what it raises is logged."""
        task = asyncio.ensure_future(settled(work))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("what waitUntil() was given failed", exc_info=task.exception())

    async def close(self, limit_s: float) -> None:
        """Give the work *limit_s* seconds to end, and cancel what has not."""
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=limit_s)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
