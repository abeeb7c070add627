"""The runtime: one open store, and the objects that live in it.

What is opened is closed in the opposite order. On closing, deliveries that run get time to end, then
they are cancelled; what they wrote is committed either way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from attrs import define, field, frozen

from durable._disk.batch import Batch, Place, Unchanged
from durable._disk.codec import Codec, MsgpackCodec
from durable._disk.committer import Committer
from durable._disk.environment import Environment
from durable._disk.reads import Reads
from durable._gates.answers import when_done
from durable._gates.delivery import gate_task
from durable._loop import task_starts
from durable._loop.loop import Loop, which_backend
from durable._loop.open_loop import make_loop
from durable._loop.timers import Timers
from durable._model.clock import Clock, SystemClock
from durable._model.errors import RuntimeClosed, WrongLoop
from durable._model.limits import Limits
from durable._object.base import DurableObject
from durable._object.events import Event
from durable._object.services import Services
from durable._storage.cache_budget import CacheBudget

from .alarms import Alarms
from .directory import Directory
from .env import Env
from .namespace import Namespace

T = TypeVar("T", bound=DurableObject)

# After the grace time, what has been cancelled gets this long to clean up behind itself.
CLEAN_UP_S_MAX = 1.0


@frozen
class Statistics:
    """What a runtime is doing at this moment."""

    live_objects: int
    open_deliveries: int
    queued_deliveries: int
    cache_bytes: int
    batches_waiting: int


@define(eq=False, repr=False)
class Runtime:
    """An open store: `namespace(cls)` gives the objects of a class, `env` all that is bound.

    Made by `async with durable.open(...)`. It belongs to the event loop that opened it: use from
    elsewhere raises WrongLoop, use after the end RuntimeClosed.
    """

    _path: str
    _services: Services
    _environment: Environment
    _committer: Committer
    _directory: Directory
    _alarms: Alarms
    _namespaces: dict[type[DurableObject], Namespace[Any]] = field(factory=dict, init=False)

    @property
    def env(self) -> Any:
        """The bindings' namespaces and the variables, by attribute."""
        return self._services.env

    def namespace(self, cls: type[T]) -> Namespace[T]:
        """The objects of *cls*; registers the class in the store if it is new there.

        Raises TypeError if *cls* is no subclass of DurableObject, ValueError if another class of
        the same name is in use.
        """
        namespace = self._namespaces.get(cls)
        if namespace is None:
            namespace = self._register(cls)
        return namespace

    def statistics(self) -> Statistics:
        """What the runtime is doing at this moment; cheap enough to be asked every second."""
        hosts = list(self._directory)
        return Statistics(
            live_objects=len(hosts),
            open_deliveries=sum(len(host.open) for host in hosts),
            queued_deliveries=sum(host.gate.queued for host in hosts),
            cache_bytes=self._services.budget.size,
            batches_waiting=self._committer.waiting,
        )

    def _register(self, cls: type[T]) -> Namespace[T]:
        if not (isinstance(cls, type) and issubclass(cls, DurableObject)):
            raise TypeError(f"namespace() takes a subclass of DurableObject, not {cls!r}")
        if not self._services.loop.is_here():
            raise WrongLoop(repr(self))
        if not self._services.is_open:
            raise RuntimeClosed
        for other in self._namespaces:
            if other.__name__ == cls.__name__:
                raise ValueError(
                    f"the store has objects of one class called {cls.__name__}, and that is "
                    f"{other.__module__}.{other.__qualname__}; rename "
                    f"{cls.__module__}.{cls.__qualname__}, or use another store for it"
                )
        record = self._environment.register_class(cls.__name__, cls.__name__)
        namespace = Namespace(cls, record, self._directory, self._alarms)
        self._namespaces[cls] = namespace
        self._alarms.namespaces[record.number] = namespace
        self._alarms.ask()
        return namespace

    def __repr__(self) -> str:
        state = "open" if self._services.is_open else "closed"
        return f"<Runtime {state} of {self._path!r}, {len(self._directory)} live objects>"


class open:
    """Open the store in the folder *path*, which is made if it is not there.

        async with durable.open("state", bindings={"COUNTERS": Counter}) as runtime:
            stub = runtime.env.COUNTERS.get_by_name("front page")

    *bindings*: classes, or names of variables of `env` for them; *vars*: further variables of
    `env`; *limits*, *clock* and *codec*: in place of the usual ones; *reads*: "inline" reads what is
    not in memory at once, "thread" in a thread of its own, for stores larger than memory.

    Raises StoreInUse if another process or another `open` has the store, StoreDamaged, FormatTooNew,
    MigrationConflict, and OSError where the folder cannot be used. An exception of the body passes
    unchanged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        bindings: Mapping[str, type[DurableObject]] | None = None,
        vars: Mapping[str, Any] | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        codec: Codec | None = None,
        reads: str = "inline",
    ) -> None:
        self._path = os.fspath(path)
        self._bindings = dict(bindings or {})
        self._vars = dict(vars or {})
        self._limits = limits or Limits()
        self._clock = clock or SystemClock()
        self._codec = codec or MsgpackCodec()
        self._reads = reads
        self._faults: Any = None  # by durable.testing
        _check(self._bindings, self._vars, reads)
        self._open: _OpenStore | None = None

    async def __aenter__(self) -> Runtime:
        if self._open is not None:
            raise RuntimeError("durable.open() gives one runtime; call it again for another")
        self._open = _OpenStore(
            self._path, self._limits, self._clock, self._codec, self._reads, self._faults
        )
        return await self._open.start(self._bindings, self._vars)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._open is not None
        # Shielded: a body that was cancelled must not cost what objects wrote.
        with anyio.CancelScope(shield=True):
            await self._open.stop()


def _check(bindings: Mapping[str, Any], variables: Mapping[str, Any], reads: str) -> None:
    for name, cls in bindings.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"a binding's name must be an identifier, not {name!r}")
        if not (isinstance(cls, type) and issubclass(cls, DurableObject)):
            raise TypeError(f"the binding {name} must be a subclass of DurableObject, not {cls!r}")
        if name in variables:
            raise ValueError(f"env.{name} would be a binding and a variable; rename one of them")
    if reads not in {"inline", "thread"}:
        raise ValueError(f'reads must be "inline" or "thread", not {reads!r}')


class _OpenStore:
    """The parts of one runtime, from the opening to the closing."""

    def __init__(
        self,
        path: str,
        limits: Limits,
        clock: Clock,
        codec: Codec,
        reads: str,
        faults: Any,
    ) -> None:
        self._path = path
        self._faults = faults
        self._limits = limits
        self._clock = clock
        backend = which_backend()
        self._environment = Environment.open(path, clock=clock)
        self._loop: Loop = make_loop(backend)
        self._timers = Timers(clock)
        self._committer = Committer(
            self._environment, self._loop.call_soon_threadsafe, faults=faults
        )
        self._reads = Reads(
            self._environment, self._loop.call_soon_threadsafe, inline=reads == "inline", faults=faults
        )
        self._services = Services(
            loop=self._loop,
            timers=self._timers,
            clock=clock,
            limits=limits,
            codec=codec,
            reads=self._reads,
            submit=self._submit,
            next_number=self._environment.next_number,
            when_answered=self._when_answered,
            budget=CacheBudget(limits.cache_bytes_max),
        )
        self._directory = Directory(self._services, self._environment)
        self._alarms = Alarms(self._services, self._environment, {})
        self._unwatch = clock.watch(self._is_busy)
        self._starts = task_starts.watch(backend, gate_task)

    async def start(
        self, bindings: Mapping[str, type[DurableObject]], variables: Mapping[str, Any]
    ) -> Runtime:
        await self._loop.open()
        self._committer.start()
        self._loop.spawn(self._timers.run(), "durable timers")
        runtime = Runtime(
            self._path,
            self._services,
            self._environment,
            self._committer,
            self._directory,
            self._alarms,
        )
        try:
            namespaces = {name: runtime.namespace(cls) for name, cls in bindings.items()}
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.stop()
            raise
        self._services.env = Env({**namespaces, **variables})
        return runtime

    async def stop(self) -> None:
        """Let deliveries end, then cancel them; commit what they wrote; leave nothing behind."""
        self._services.is_open = False
        self._alarms.close()
        self._unwatch()
        with anyio.move_on_after(self._limits.shutdown_s_max):
            while events := self._unanswered():
                for event in events:
                    await self._wait_answered(event)
        await self._cancel_what_runs()
        for host in self._directory:
            host.finish_turns()
        await anyio.to_thread.run_sync(self._committer.stop)
        await self._wait_reported()
        for host in self._directory:
            host.break_(RuntimeClosed("the runtime was closed while the call was under way"))
        for sockets in list(self._services.sockets.values()):
            sockets.disconnect_all()
        await self._loop.close()
        self._starts.close()
        self._reads.close()
        self._environment.close()

    def _unanswered(self) -> list[Event[Any]]:
        return [event for host in self._directory for event in host.open if event.is_waited_for]

    async def _wait_answered(self, event: Event[Any]) -> None:
        waker = self._loop.waker()
        when_done(event, lambda: None if waker.done() else waker.set_result(None))
        await waker

    async def _cancel_what_runs(self) -> None:
        tasks = {task for host in self._directory for task in host.gate.running}
        if not tasks:
            return
        for task in tasks:
            task.cancel()
        with anyio.move_on_after(CLEAN_UP_S_MAX):
            while any(tasks & host.gate.running for host in self._directory):
                await anyio.sleep(0.001)

    def _submit(self, batch: Batch) -> None:
        if batch.alarm is not Unchanged.UNCHANGED:
            self._alarms.submitting(batch)
        self._committer.submit(batch)

    def _is_busy(self) -> bool:
        """Whether threads are at work, in a way that a test need not end."""
        faults = self._faults
        return (self._committer.waiting > 0 and not (faults and faults.is_commit_stuck)) or (
            self._reads.waiting > 0 and not (faults and faults.is_read_stuck)
        )

    def _when_answered(self, callback: Any) -> None:
        """An empty batch comes back when all before it have."""
        place = Place(0, b"", 0, None, None, None)
        self._committer.submit(
            Batch(
                place=place,
                wipe=False,
                puts={},
                alarm=Unchanged.UNCHANGED,
                on_durable=callback,
                on_failed=lambda error: callback(),
                size=0,
            )
        )

    async def _wait_reported(self) -> None:
        """The committer has ended; let what it reported be heard."""
        while self._committer.waiting:
            await anyio.sleep(0)
