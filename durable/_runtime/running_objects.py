"""The running code of the objects of an open store: it gets time to end, then it is cancelled.

That is done when the store is closed, and for the objects of a shard when that is given up. What
the code has written is sealed either way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from attrs import define

from durable._border.sockets import SocketTable
from durable._gates.futures import PendingAnswer, wait_done
from durable._object.activation import Activation
from durable._object.services import Services

from .directory import Directory

# After the grace time, cancelled code gets this long to clean up.
CLEAN_UP_S_MAX = 1.0

IsMeant = Callable[[bytes], bool]
"""Whether the object with these raw bytes of an id is one of those that have to end."""


def _all(_: bytes) -> bool:
    return True


@define(eq=False)
class RunningObjects:
    """The live objects of one store, and the work in them."""

    _directory: Directory
    _sockets: SocketTable
    _services: Services

    def live(self, is_meant: IsMeant) -> list[Activation]:
        return [activation for activation in self._directory if is_meant(activation.id.raw)]

    async def finish(self, is_meant: IsMeant = _all) -> None:
        """Let what runs in those objects end, then cancel it; seal what was written."""
        with anyio.move_on_after(self._services.limits.shutdown_s_max):
            while unfinished := self._unfinished(is_meant):
                for answer in unfinished:
                    await wait_done(answer)
        await self._cancel_what_runs(is_meant)
        for activation in self.live(is_meant):
            activation.finish_turns()

    def _unfinished(self, is_meant: IsMeant) -> list[PendingAnswer[Any]]:
        """The running deliveries, and the work that objects have begun by wait_until."""
        events = [
            event
            for activation in self.live(is_meant)
            for event in activation.open
            if event.is_waited_for
        ]
        sockets = self._sockets.of_objects
        # Work that reads sockets ends with them, and they end with the runtime.
        reading = {raw for raw, of_object in sockets.items() if of_object.are_read}
        works = [
            done
            for done, raw in self._services.works.items()
            if raw not in reading and is_meant(raw)
        ]
        return [*events, *works]

    async def _cancel_what_runs(self, is_meant: IsMeant) -> None:
        def running() -> set[Any]:
            return {task for live in self.live(is_meant) for task in live.gate.running}

        tasks = running()
        for task in tasks:
            task.cancel()
        with anyio.move_on_after(CLEAN_UP_S_MAX):
            while tasks and tasks.intersection(running()):
                await anyio.sleep(0.001)
