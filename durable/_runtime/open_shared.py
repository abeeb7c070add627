"""An open store of shards: what `OpenStore` does, on several disks, which come and go.

A task keeps the shards that this process owns to those that it should, by the placement; it is
woken when a process comes or goes, and looks by itself once a second.

Rule: a shard is given up as a whole. Its objects accept nothing new, what runs there ends, all of
it is committed, and only then may another process own the shard.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from durable._control.server import let_watch
from durable._deploy.programs import Deployment, Program
from durable._engine.engine import Engine
from durable._engine.shards import Process
from durable._model.errors import DurableError, ObjectReset, RuntimeClosed
from durable._model.log import log
from durable._model.peers import Peers
from durable._object.activation import Activation
from durable._shards.balance import LOOKS_S, LOOKS_SOON_S, Balance
from durable._shards.lines import Lines
from durable._wire.calls import unreachable

from .crossings import crossing_of
from .directory import Directory
from .disks import Disks, OpenDisk
from .engines import is_url, open_database, open_shared
from .moving_sockets import MovingSockets
from .neighbours import CHANGED, CLASSES, Neighbours
from .open_store import OpenStore, Options
from .peer_answers import peer_processes
from .peer_processes import PeerProcess
from .running_objects import IsMeant
from .runtime import Runtime
from .shard_disks import ShardDisks
from .shared_directory import ObjectsHere, SharedDirectory
from .tenure import Tenure
from .transports import NoPeers, TcpSockets, Transport, UnixSockets

MOVED: Final = "Durable Object moved to another process of its store."


class OpenSharedStore(OpenStore):
    """One process's part of a store of shards."""

    _disks: ShardDisks
    _directory: SharedDirectory
    _transport: Transport

    def __init__(self, path: str, options: Options) -> None:
        super().__init__(path, options)
        disks, services = self._disks, self._services
        crossing = crossing_of(services, self._classes)
        self._neighbours = Neighbours(
            disks.shared,
            self._transport,
            self._loop,
            crossing,
            ObjectsHere(disks, self._classes, services),
            on_owner=self._owner_changed,
            on_change=self._look_anew,
            on_classes=self._follow_classes,
            is_waited_for=lambda: len(self._lines) > 0,
        )
        self._lines = Lines(
            self._loop,
            self._clock,
            self._timers,
            self._limits.unreachable_s_max,
            self._neighbours.owners.owner_of,
            self._neighbours.look_for,
            unreachable,
            disks.open,
        )
        self._directory.lead_by(disks, self._lines, crossing)
        self._disks.on_classes = partial(self._neighbours.notify_all, CLASSES)
        self._looked = anyio.Event()
        shared = disks.shared
        self._balance = Balance(shared.me.id, shared.count, disks.open, disks.leaving)
        self._moving = MovingSockets(disks, self._neighbours, self._classes, self._sockets)
        # Why a shard could not be taken.
        self._refused: Exception | None = None
        self._tenure = Tenure(
            shared,
            disks,
            self._directory,
            services,
            self._loop,
            self._classes.check_kept,
            self._news,
            self._has_joined_again,
        )
        self._tenure.begin()

    def _make_directory(self, activation_class: type[Activation]) -> Directory:
        return SharedDirectory(self._services, activation_class)

    def _open_disks(self) -> Disks:
        options = self._options
        if is_url(self._source):
            return self._open_database(options.peers)
        shared = open_shared(
            self._source, self._clock, shards=options.shards, is_alone=not options.shared
        )
        shared.join()
        self._transport = UnixSockets(shared)
        return ShardDisks(shared, self._clock)

    def _open_database(self, peers: Peers | None) -> Disks:
        transport = NoPeers() if peers is None else TcpSockets(peers, self._watcher_came)
        with ExitStack() as if_it_fails:
            if_it_fails.callback(transport.close)
            shared = open_database(
                self._source,
                self._clock,
                address=transport.address,
                limits=self._limits,
                is_alone=peers is None,
            )
            if_it_fails.callback(shared.leave)
            shared.join()
            if_it_fails.pop_all()
        self._transport = transport
        return ShardDisks(shared, self._clock)

    def _watcher_came(self, connection: socket.socket) -> None:
        """A command of another machine, which knows the secret, watches this process."""
        let_watch(self._control_server, connection)

    def _control_folder(self) -> str:
        return self._disks.shared.folder()

    def _runtime(self, programs: Sequence[Program], deployment: Deployment) -> Runtime:
        runtime = super()._runtime(programs, deployment)
        runtime._is_one_of_several(self._disks.shared.me.id, self._peers)
        self._neighbours.crossing.requests["peer"] = lambda peer, value: len(self._directory)
        return runtime

    async def _peers(self) -> list[PeerProcess]:
        """All processes, each with what it reports of itself."""
        return await peer_processes(self._disks.shared, self._neighbours, len(self._directory))

    # Opening

    async def _begin(self) -> None:
        shared = self._disks.shared
        if not shared.me.is_alone:
            self._neighbours.listen()
            self._neighbours.meet(shared.processes())
            await self._neighbours.wait_connected(LOOKS_S)
            if self._neighbours.refused is not None:
                raise self._neighbours.refused
        self._neighbours.read_owners()
        shared.say("ready")
        await anyio.to_thread.run_sync(shared.refresh)
        # From now on no process deletes a class, but one could while this one was starting.
        self._classes.check_kept(self._disks.catalog())
        self._neighbours.notify_all(CHANGED)
        self._balance.is_on = True
        await self._look_after_shards()
        self._loop.keep_running(self._keep_balance, "durable balance")

    def _news(self) -> None:
        """A change of processes or owners was read in the background."""
        self._neighbours.read_owners()
        self._look()

    def _has_joined_again(self) -> None:
        self._neighbours.notify_all(CHANGED)
        self._news()

    def _owner_changed(self, shard: int | None) -> None:
        self._lines.owner_changed(shard)
        self._moving.owner_changed(shard)

    def _follow_classes(self) -> None:
        """Another process has changed the classes: read them anew for the shards here."""
        shared = self._disks.shared
        for shard in self._disks.open:
            shared.follow(shard)

    # The balance

    def _look(self) -> None:
        """Look at once whether the shards are where they should be."""
        self._balance.something_changed()
        self._looked.set()

    def _look_anew(self) -> None:
        """The same, and first read the processes and owners, if the look does not."""
        self._disks.shared.look_soon()
        self._look()

    async def _keep_balance(self) -> None:
        while True:
            self._looked = anyio.Event()
            pause_s = LOOKS_SOON_S
            try:
                pause_s = await self._look_after_shards()
            except (OSError, DurableError) as error:
                log.error("the shards of %r cannot be balanced now: %s", self._path, error)
            with anyio.move_on_after(pause_s):
                await self._looked.wait()

    async def _look_after_shards(self) -> float:
        """Give up the shards that this process should not own, and take those that it should;
        returns when to look again."""
        balance, disks, shared = self._balance, self._disks, self._disks.shared
        if not balance.is_on:
            return LOOKS_S
        processes = shared.processes()
        if not shared.me.is_alone:
            self._neighbours.meet(processes)
        if lost := shared.lost(set(disks.open) - balance.giving):
            self._tenure.lost(lost)
        plan = balance.plan(_ready(processes))
        for shard in {*lost, *plan.give}:
            self._start_giving(shard)
        if plan.take:
            self._refused = None
            async with anyio.create_task_group() as group:
                for shards in self._together(plan.take):
                    group.start_soon(self._try_to_take, shards)
            if self._refused is not None:
                raise self._refused
        living = {process.id for process in processes}
        met = living if shared.me.is_alone else self._neighbours.peers
        if any(process not in met for process in living):
            shared.look_soon()  # it is starting, or has ended
        owners = [owned.owner for owned in shared.owners()]
        if shared.lease is not None:
            for shard in balance.strays(owners):
                shared.release(shard)
        return balance.look_pause_s(owners, living, met)

    # Taking a shard

    def _together(self, shards: Sequence[int]) -> Sequence[Sequence[int]]:
        """Groups of shards to be taken by one call; each alone where that opens files."""
        return [shards] if self._disks.shared.has_one_engine else [[shard] for shard in shards]

    async def _try_to_take(self, shards: Sequence[int]) -> None:
        """Take the shards if possible; a failure with one does not affect the others."""
        try:
            await self._take(shards)
        except (OSError, DurableError) as error:
            self._refused = self._refused or error

    async def _take(self, shards: Sequence[int]) -> None:
        """Own those of the shards that no other process owns."""
        shared = self._disks.shared
        lease = shared.lease
        self._balance.taking.update(shards)
        try:
            taken = await anyio.to_thread.run_sync(shared.acquire_some, shards)
        finally:
            self._balance.taking.difference_update(shards)
        if lease is not None and (lease.is_over or shared.lease is not lease):
            return  # they were lost meanwhile, with all others
        for shard, engine in taken.items():
            try:
                owned = shared.has(shard)
            except (OSError, DurableError) as error:
                shared.release(shard)  # else no process would find it here
                self._refused = self._refused or error
                continue
            self._disks.opened(shard, engine, self._working_disk)
            self._moving.opened(shard)
            self._neighbours.has(shard, owned)

    def _working_disk(self, engine: Engine) -> OpenDisk:
        disk = self._disk_with(engine)
        self._let_ring(disk)
        disk.committer.start()
        disk.ask()
        return disk

    # Giving a shard up

    def _start_giving(self, shard: int) -> None:
        self._balance.giving.add(shard)

        async def give() -> None:
            try:
                await self._give_up(shard)
            except Exception:
                log.exception("shard %d could not be given up as it should be", shard)
            finally:
                self._balance.giving.discard(shard)
                self._loop.ended(self._loop.own_task())

        self._loop.spawn(give(), f"durable gives shard {shard} up")

    async def _give_up(self, shard: int) -> None:
        disks = self._disks
        disks.begin_leaving(shard)
        is_meant = partial(self._is_in, shard)
        for activation in self._running.live(is_meant):
            activation.is_gone = True
        for sockets in self._sockets:
            if is_meant(sockets.object_id.raw):
                sockets.pause()
        try:
            await self._running.finish(is_meant)
            await disks.finish(shard)
            for sockets in list(self._sockets):
                if is_meant(sockets.object_id.raw):
                    await self._moving.hand_over(
                        shard, sockets, self._next_owner(shard), keeps_clients=self._balance.is_on
                    )
                    sockets.restart_all()
            self._send_away(is_meant)
            # Each for a bounded time. What is still to be stored must not be under a later claim.
            while self._directory.has_unsettled(is_meant):
                await anyio.sleep(0.001)
                self._send_away(is_meant)  # an operator, or a failed alarm, may have woken one
        finally:
            await disks.left(shard)
            self._neighbours.has(shard, disks.shared.release(shard))

    def _next_owner(self, shard: int) -> str | None:
        """The process that should own a shard that this one gives up."""
        return self._balance.next_owner(shard, _ready(self._disks.shared.processes()))

    def _is_in(self, shard: int, raw: bytes) -> bool:
        return self._disks.shard_of(raw) == shard

    def _send_away(self, is_meant: IsMeant) -> None:
        """The objects leave memory with their shard: unnoticed, if nothing is lost by that."""
        for activation in self._running.live(is_meant):
            if activation.is_idle:
                activation.evict()
            else:
                activation.break_(ObjectReset(MOVED, retryable=True))

    # The end

    async def stop(self) -> None:
        shared = self._disks.shared
        self._balance.is_on = False
        self._services.is_open = False
        shared.say("leaving")
        self._neighbours.notify_all(CHANGED)
        try:
            while (shards := self._balance.leave(has_others=self._has_others())) is not None:
                for shard in shards:
                    self._start_giving(shard)
                await anyio.sleep(0.001)
            self._moving.send_all_on(self._next_owner)
            await super().stop()
        finally:
            shared.leave()

    def _has_others(self) -> bool:
        return bool(set(self._neighbours.peers) - {self._disks.shared.me.id})

    async def _part(self) -> None:
        self._lines.close(RuntimeClosed)
        await self._neighbours.wait_connected(LOOKS_S)
        await self._neighbours.wait_parted()
        self._neighbours.close()

    def let_go(self) -> None:
        super().let_go()
        self._disks.shared.leave()

    def _close_disk(self, disk: OpenDisk) -> None:
        """The release of the shard closes the engine."""
        disk.reads.close()


def _ready(processes: Sequence[Process]) -> list[str]:
    """The processes that are ready to own shards."""
    return [process.id for process in processes if process.state == "ready"]
