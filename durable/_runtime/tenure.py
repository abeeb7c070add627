"""The tenure of a process: what happens when its lease on a store is over, and how it comes back.

All of its objects are reset then, and nothing that they have sent since leaves. It waits for what
was on its way to the database, since that must not be stored under a later claim. Then the process
joins the others again.

A single shard can be lost, too, while the lease lasts: then its objects are reset, and the process
gives it up as it does for the sake of balance.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Final

import anyio
import anyio.to_thread
from attrs import define, field

from durable._engine.catalog import Catalog
from durable._engine.lease import Lease
from durable._engine.shards import SharedStore
from durable._gates.leased_output_gate import LeasedOutputGate
from durable._loop.loop import Loop
from durable._model.cluster_errors import ObjectSuperseded
from durable._model.errors import DurableError
from durable._model.log import log
from durable._object.services import Services

from .directory import Directory
from .disks import when_all_answered
from .shard_disks import ShardDisks

SUPERSEDED: Final = (
    "Durable Object reset because its process did not renew its lease in time: another process may "
    "have the object by now."
)
TAKEN: Final = "Durable Object reset because another process owns it by now."
# The pause after a failed attempt to join.
JOIN_AGAIN_S: Final = 0.5


@define(eq=False)
class Tenure:
    """For how long the shards of this process are its own. Only joining again suspends."""

    shared: SharedStore
    disks: ShardDisks
    directory: Directory
    services: Services
    loop: Loop
    # Raises MigrationConflict if the store has lost a class of this program.
    check_kept: Callable[[Catalog], None]
    # Called when a change of processes, or owners of shards, was read.
    on_news: Callable[[], None]
    # Called when this process has joined again, and has no shards yet.
    on_joined: Callable[[], None]
    _is_ending: bool = field(default=False, init=False)
    # A lease, and what the gates of its objects call when it is over.
    _over: tuple[Lease, Callable[[], None]] | None = field(default=None, init=False)
    # Why it cannot come back, as was last written to the log.
    _refused: str = field(default="", init=False)

    def begin(self) -> None:
        """The process has joined: renew its lease, if it has one."""
        if self.shared.lease is not None:
            self.services.make_output = self._make_output
            self._renew()

    def _renew(self) -> None:
        lease = self.shared.lease
        assert lease is not None
        on_over = partial(self.is_over, lease)
        call_back = self.loop.call_soon_threadsafe
        self.shared.start(lambda: call_back(self.on_news), lambda: call_back(on_over))

    def _make_output(self) -> LeasedOutputGate:
        lease = self.shared.lease
        assert lease is not None
        if self._over is None or self._over[0] is not lease:
            self._over = lease, partial(self.is_over, lease)
        return LeasedOutputGate(lease=lease, on_over=self._over[1])

    def lost(self, shards: Collection[int]) -> None:
        """By the store's account these shards belong to another process, though the lease is valid:
        a standby has taken the place of its database that lacks their claim, or a backup was put
        back. Their objects are reset."""
        log.error(
            "%d shards of %s belong to another process by now: their objects are reset",
            *(len(shards), self.shared.path),
        )
        for activation in list(self.directory):
            if self.disks.shard_of(activation.id.raw) in shards:
                activation.break_(ObjectSuperseded(TAKEN))

    def is_over(self, lease: Lease) -> None:
        """*lease* is over, perhaps an earlier one. Running code goes on to the end of its step."""
        if lease is self.shared.lease and not self._is_ending:
            self._is_ending = True
            self.loop.call_soon(self._end)

    def _end(self) -> None:
        self.shared.lose()
        self.disks.open.clear()
        for activation in list(self.directory):
            activation.break_(ObjectSuperseded(SUPERSEDED))
        if self.services.is_open:
            self.loop.spawn(self._join_again(), "durable joins again")

    async def _join_again(self) -> None:
        try:
            answered = anyio.Event()
            when_all_answered(self.disks, answered.set)
            await answered.wait()
            # What follows the answer to another batch was not submitted before.
            while self.services.is_open and self.directory.has_unsettled():
                await anyio.sleep(0.001)
            while self.services.is_open and not await self._try_to_join():
                await anyio.sleep(JOIN_AGAIN_S)
            if self.services.is_open:
                self._is_ending = False
                self._renew()
                self.on_joined()
        finally:
            self.loop.ended(self.loop.own_task())

    async def _try_to_join(self) -> bool:
        try:
            self.check_kept(await anyio.to_thread.run_sync(self.shared.catalog))
            await anyio.to_thread.run_sync(self.shared.join_again)
        except (DurableError, OSError) as error:
            if str(error) != self._refused:
                self._refused = str(error)
                log.warning("%s cannot be joined again yet: %s", self.shared.path, error)
            return False
        self._refused = ""
        return True
