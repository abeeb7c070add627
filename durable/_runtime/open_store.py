"""The parts of one runtime, from its opening to its closing.

What is opened is closed in the opposite order; what objects have written is committed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, cast

import anyio
import attrs
from attrs import frozen

from durable._border.durable_object import construct, has_constructor
from durable._border.once import CallsOnce
from durable._border.sockets import SocketTable
from durable._control.polled import Polled
from durable._control.server import ControlServer
from durable._deploy.programs import Deployment, Program, resolve
from durable._engine.codec import Codec
from durable._engine.committer import Committer
from durable._engine.engine import Engine
from durable._engine.group_commit import GroupCommit
from durable._engine.read_thread import Reads
from durable._gates.delivery import gate_task
from durable._gates.executor import Executor
from durable._loop import task_starts
from durable._loop.loop import Loop, which_backend
from durable._loop.open_loop import make_loop
from durable._loop.timers import Timers
from durable._model.clock import Clock
from durable._model.errors import RuntimeClosed, WrongLoop
from durable._model.limits import Limits
from durable._model.observer import Observer
from durable._model.peers import Peers
from durable._object.activation import Activation
from durable._object.services import Services
from durable._storage.cache_budget import CacheBudget
from durable._storage.sql_support import SqlSupport
from durable._watch.debug import WatchedActivation
from durable._watch.observed import Observers
from durable._watch.sampled import Sampler

from .alarms import Alarms
from .class_table import ClassTable
from .commits import Commits
from .directory import Directory
from .disks import Disks, OneDisk, OpenDisk
from .engines import open_engine, shown
from .env import Env
from .orders import take_orders
from .running_objects import RunningObjects
from .runtime import Runtime
from .sweeper import Sweeper

if TYPE_CHECKING:
    from durable._object.hooks import Hooks

log = logging.getLogger("durable")


@frozen
class Options:
    """How a store is opened, whatever its contents."""

    limits: Limits
    clock: Clock
    codec: Codec
    reads: str
    faults: Any = None
    observer: Observer | None = None
    # Open a socket for `durable tail` and `durable top`.
    operate: bool = False
    # Writes stay in memory and vanish.
    scratch: bool = False
    # Report what objects do wrong.
    debug: bool = False
    # Other processes share the store; None: if the store is shared already, and then alone.
    shared: bool = False
    shards: int | None = None
    # Processes of other machines share it.
    peers: Peers | None = None


class OpenStore:
    """One open store, with all that serves it."""

    open_engine: ClassVar[Callable[..., Engine]] = staticmethod(open_engine)
    # The classes of what works on threads; a simulation has others, which work in the loop.
    committer_class: ClassVar[type[Committer]] = Committer
    reads_class: ClassVar[type[Reads]] = Reads

    def __init__(self, path: str, options: Options) -> None:
        limits, clock, faults = options.limits, options.clock, options.faults
        # Where it is, and how messages name it: a URL may contain a password.
        self._source, self._path = path, shown(path)
        self._faults = faults
        self._operate = options.operate
        self._closed: anyio.Event | None = None
        self._control_server: ControlServer | None = None
        self._limits = limits
        self._clock = clock
        backend = which_backend()
        self._options = options
        self._loop: Loop = make_loop(backend)
        self._executor = Executor(clock, loop=self._loop)
        self._timers = Timers(clock)
        self._observers = Observers(clock)
        self._commits = Commits(
            clock,
            self._loop.call_soon_threadsafe,
            lambda: self._observers.is_observed,
            self._observers.notify,
        )
        self._disks = self._open_disks()
        self._services = Services(
            loop=self._loop,
            timers=self._timers,
            clock=clock,
            limits=limits,
            codec=options.codec,
            disk_of=self._disks.disk_of,
            start=self._executor.start,
            budget=CacheBudget(limits.cache_bytes_max),
            sql=SqlSupport(clock, limits),
        )
        self._services.share(self._observers)
        self._services.share(Sampler(self._observers, self._services))
        self._services.share(CallsOnce())
        self._observers.install = self._install
        self._install(None)
        self._services.construct, self._services.has_constructor = construct, has_constructor
        if options.observer is not None:
            self._observers.add(options.observer, ())
        activation_class = WatchedActivation if options.debug else Activation
        self._directory = self._make_directory(activation_class)
        # After the directory, which forgets an object before its sockets are notified.
        self._sockets = SocketTable(self._services)
        self._running = RunningObjects(self._directory, self._sockets, self._services)
        self._classes = ClassTable()
        self._services.ring_now = self._ring_now
        for disk in self._disks:
            self._let_ring(disk)
        self._unwatch = clock.watch(self._is_busy)
        # In a forked child: the parent has this store open, and will close it.
        self._is_foreign = False
        self._starts = task_starts.watch(backend, gate_task)

    def _install(self, hooks: Observers | None) -> None:
        """Call *hooks* with what happens to objects; None: nothing observes."""
        self._services.hooks = cast("Hooks | None", hooks)
        watch = self._services.sql.watch
        watch.asks_touched = self._options.debug
        watch.observe(hooks is not None or self._options.debug)

    def _make_directory(self, activation_class: type[Activation]) -> Directory:
        return Directory(self._services, activation_class)

    def _let_ring(self, disk: OpenDisk) -> None:
        disk.ring_by(Alarms(self._services, disk.engine, self._classes))
        disk.sweeper = Sweeper(
            self._services, disk.disk, self._disks, self._directory, self._classes
        )

    def _open_disks(self) -> Disks:
        engine = self.open_engine(self._source, self._clock, scratch=self._options.scratch)
        return OneDisk(self._disk_with(engine))

    def _disk_with(self, engine: Engine) -> OpenDisk:
        """A disk whose engine is *engine*; it rings no alarms yet."""
        committer = self.committer_class(
            engine,
            self._loop.call_soon_threadsafe,
            loop=self._loop,
            faults=self._faults,
            watch=self._commits,
        )
        reads = self.reads_class(
            engine,
            self._loop.call_soon_threadsafe,
            inline=self._options.reads == "inline",
            faults=self._faults,
        )
        group_commit = GroupCommit(committer, self._executor, self._loop.call_soon)
        return OpenDisk(engine, committer, group_commit, reads)

    async def _ring_now(self, activation: Any, timer: str | None) -> Any:
        for disk in self._disks:
            if disk.disk is activation.disk:
                return await disk.alarms.ring_now(activation, timer)
        return None

    async def start(self, programs: Sequence[Program]) -> Runtime:
        """Apply the migrations of *programs*; run the last one, with the others beside it."""
        _open_stores.add(self)
        await self._loop.open()
        self._loop.keep_running(self._timers.run, "durable timers")
        try:
            runtime = self._runtime(programs, self._deployed(programs))
            await self._begin()
        except BaseException:
            await self.close()
            raise
        return runtime

    def _deployed(self, programs: Sequence[Program]) -> Deployment:
        """What runs, once the store has its classes recorded."""
        while True:
            deployment = resolve(self._disks.catalog(), programs)
            if deployment.after == deployment.before or self._disks.change_classes(
                deployment.before, deployment.after
            ):
                return deployment

    async def _begin(self) -> None:
        """The store and the runtime know the classes: begin to work."""
        # Not before: the committer looks for garbage at its start, and a deleted class leaves some.
        for disk in self._disks:
            disk.committer.start()

    def _runtime(self, programs: Sequence[Program], deployment: Deployment) -> Runtime:
        opened = programs[-1]
        runtime = Runtime(
            self._source,
            self._path,
            opened.script,
            self._services,
            self._disks,
            self._directory,
            self._classes,
            self._commits,
        )
        if self._operate:
            self._control_server = ControlServer(
                self._control_folder(),
                self._clock,
                self._loop.call_soon_threadsafe,
                self._loop.call_later,
                observe=runtime.observe,
                sample=runtime._sample,
                statistics=lambda: attrs.asdict(runtime.statistics()),
                polled=Polled(
                    runtime._polled.measure,
                    runtime._polled.count,
                    lambda: attrs.asdict(runtime._polled_statistics()),
                    lambda: runtime._polled.counts.queues,
                ),
                take_order=take_orders(runtime),
            )
        namespace_of = {
            number: runtime.add_class(record, cls)
            for number, (record, cls) in deployment.classes.items()
        }
        for program in programs:
            namespaces = {
                name: namespace_of[number]
                for name, number in deployment.bindings[program.script].items()
            }
            env = self._services.env = Env({**namespaces, **program.vars})
            for record, _ in deployment.classes.values():
                if record.script == program.script:
                    self._services.envs[record.number] = env
                    if (history_us := program.histories.get(record.name)) is not None:
                        self._services.histories[record.number] = history_us
        return runtime

    def _control_folder(self) -> str:
        """The folder of the socket for `durable tail` and `durable top`."""
        return self._path

    async def close(self) -> None:
        """Stop, however often the caller is cancelled meanwhile: that must not cost what objects
        wrote. Raises an interrupt that code of an object has raised and that is still pending.

        Only once: a second call waits for the end of the first. In a forked child nothing is done.
        """
        if self._is_foreign:
            return
        if self._closed is not None:
            await self._closed.wait()
            return
        if not self._loop.is_here():
            raise WrongLoop(f"the runtime of {self._path!r}")
        self._closed = anyio.Event()
        try:
            await self._close()
        finally:
            self._closed.set()

    async def _close(self) -> None:
        self._loop.keep_interrupts()
        await self._loop.finish(self.stop())
        interrupt = self._loop.keep_interrupts()
        if interrupt is not None:
            raise interrupt

    async def stop(self) -> None:
        """Let deliveries end, then cancel them; commit what they wrote; leave nothing behind."""
        if self._control_server is not None:
            self._control_server.close()
        self._services.is_open = False
        for activation in self._directory:
            if isinstance(activation, WatchedActivation):
                activation.report_unawaited()
        for disk in self._disks:
            disk.stop()
        self._unwatch()
        await self._running.finish()
        for disk in self._disks:
            await disk.finish()
        for activation in self._directory:
            activation.break_(RuntimeClosed("the runtime was closed while the call was under way"))
        for sockets in self._sockets:
            sockets.disconnect_all()
        while self._directory.endings:  # each for a bounded time
            await anyio.sleep(0.001)
        await self._part()
        self._services.sql.close()
        await self._loop.close()
        self._starts.close()
        for disk in self._disks:
            self._close_disk(disk)
        _open_stores.discard(self)

    async def _part(self) -> None:
        """Nothing runs any more: end the connections of the store, while the loop still runs."""

    def _close_disk(self, disk: OpenDisk) -> None:
        disk.close()

    @property
    def is_left(self) -> bool:
        """Whether its event loop has ended, so that it cannot be closed there any more."""
        return self in _open_stores and self._loop.has_ended()

    def let_go(self) -> None:
        """Close a store that was left open: commit what was written, free the folder. Blocks."""
        _open_stores.discard(self)
        log.warning(
            "the store %s was not closed before its event loop ended; what was written is "
            "committed, and the folder is free. Leave `async with durable.open(...)`, or the "
            "lifespan of the application (`with TestClient(app)` has one), before the loop ends",
            self._path,
        )
        for disk in self._disks:
            disk.group_commit.lose_loop()
        self._services.is_open = False
        if self._control_server is not None:
            self._control_server.close()
        self._unwatch()
        for activation in self._directory:
            activation.finish_turns()
        for disk in self._disks:
            disk.finish_without_loop()
        with suppress(RuntimeError, KeyError):  # it may have gone with the loop
            self._starts.close()
        for disk in self._disks:
            self._close_disk(disk)

    def abandon(self) -> None:
        """In a forked child: the store is the parent's."""
        self._is_foreign = True

    def _is_busy(self) -> bool:
        """Whether a commit or read is in progress that the test has not itself blocked."""
        faults = self._faults
        is_commit_stuck = bool(faults and faults.is_commit_stuck)
        is_read_stuck = bool(faults and faults.is_read_stuck)
        return any(
            (disk.group_commit.waiting > 0 and not is_commit_stuck)
            or (disk.reads.waiting > 0 and not is_read_stuck)
            for disk in self._disks
        )


# The open stores of this process, of whatever loop and thread.
_open_stores: set[OpenStore] = set()
_letting_go = threading.Lock()


def _abandon_in_child() -> None:
    for store in _open_stores:
        store.abandon()
    _open_stores.clear()


os.register_at_fork(after_in_child=_abandon_in_child)


def let_go_of_left() -> None:
    """Close the stores of this process whose event loops have ended without closing them."""
    with _letting_go:
        for store in list(_open_stores):
            if store.is_left:
                store.let_go()
