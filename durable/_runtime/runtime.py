"""The runtime: one open store, and the objects that live in it."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast
from weakref import WeakSet

from attrs import define, field

from durable._border.durable_object import DurableObject, check_methods
from durable._border.sockets import SocketTable
from durable._deploy.planning import check_usable
from durable._engine.catalog import ClassRecord, Naming
from durable._engine.engine import Engine
from durable._engine.measures import Measures
from durable._model.errors import ObjectReset, RuntimeClosed, UnknownClass, WrongLoop
from durable._model.log import log
from durable._model.observer import Observer
from durable._object.services import Services
from durable._watch.observed import Observers
from durable._watch.sampled import Client, Sampler

from .class_table import ClassEntry, ClassTable
from .commits import Commits
from .directory import Directory
from .disks import Disks
from .engines import VERSION
from .live_counts import LiveCounts, counted
from .namespace import Namespace
from .peer_processes import PeerProcess
from .polled import PolledStatistics
from .shard_disks import ShardDisks
from .statistics import Statistics, statistics_of

T = TypeVar("T", bound=DurableObject)

CODE_UPDATED = "Durable Object reset because its code was updated."


@define(eq=False, repr=False)
class Runtime:
    """An open store: `namespace(cls)` gives the objects of a class, `env` all that is bound.

    Made by `async with durable.open(...)`, or by `await durable.open(...).start()` and then closed
    by hand. It belongs to the event loop that opened it: use from elsewhere raises WrongLoop, use
    after the end RuntimeClosed.
    """

    # Where the store is: with a password if there is one, to open it again; without, to be shown.
    _source: str
    _path: str
    _script: str | None
    _services: Services
    _disks: Disks
    _directory: Directory
    _classes: ClassTable
    _commits: Commits
    _process: str | None = field(default=None, init=False)
    _ask_peers: Callable[[], Awaitable[list[PeerProcess]]] | None = field(default=None, init=False)
    _namespaces: dict[type[DurableObject], Namespace[Any]] = field(factory=dict, init=False)
    # Classes that were replaced by later versions of themselves.
    _former: WeakSet[type[DurableObject]] = field(factory=WeakSet, init=False)
    _close: Callable[[], Awaitable[None]] | None = field(default=None, init=False)
    _polled: PolledStatistics = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._polled = PolledStatistics(self._services.clock, self._directory, self._disks)

    @property
    def _engine(self) -> Engine:
        """The store, for code that looks into it."""
        return self._disks.engine

    def _is_one_of_several(
        self, process: str, ask: Callable[[], Awaitable[list[PeerProcess]]]
    ) -> None:
        """Set which process this is, and how the others are asked; not for users."""
        self._process, self._ask_peers = process, ask

    @property
    def _is_of_shards(self) -> bool:
        """Whether `_engine` makes a new one each time, which has to be closed."""
        return isinstance(self._disks, ShardDisks)

    @property
    def env(self) -> Any:
        """The bindings' namespaces and the variables, by attribute."""
        return self._services.env

    def namespace(self, cls: type[T]) -> Namespace[T]:
        """The objects of *cls*; registers the class in the store if it is new there.

        If a class was defined again, with the same qualified name in the same module, as when the
        cell of a notebook is run once more or a module is reloaded, it takes the place of the
        former one: as `replace` does it, with a note in the log. Not a class made by a function.

        Raises TypeError if *cls* is no subclass of DurableObject, ValueError if another class of
        the same name is in use, UnknownClass if the migrations of the script do not name it.
        """
        namespace = self._namespaces.get(cls)
        if namespace is None:
            namespace = self._register(cls)
        return namespace

    def statistics(self) -> Statistics:
        """What the runtime is doing, and has done since it was opened; one pass over the live
        objects, so cheap enough for every second."""
        if not self._services.is_open:
            raise RuntimeClosed
        return self._statistics_with(counted(self._directory), self._disks.measure())

    def _polled_statistics(self) -> Statistics:
        """As `statistics()`, with what `_polled` knows of the live objects and the store."""
        if not self._services.is_open:
            raise RuntimeClosed
        return self._statistics_with(self._polled.counts, self._polled.measures)

    def _statistics_with(self, counts: LiveCounts, store: Measures) -> Statistics:
        waiting = sum(disk.committer.waiting for disk in self._disks)
        return statistics_of(self._services, counts, self._commits, waiting, store)

    async def peers(self) -> list[PeerProcess]:
        """The processes that have the store open, this one too, by pid; one if it is not shared.

        Each reports how many objects are in its memory: one that does not answer within two seconds
        is in the list without that. Raises RuntimeClosed.
        """
        if not self._services.is_open:
            raise RuntimeClosed
        if self._ask_peers is not None:
            return await self._ask_peers()
        alone = PeerProcess(
            id="",
            pid=os.getpid(),
            address=None,
            version=VERSION,
            state="ready",
            shards=1,
            live_objects=len(self._directory),
            is_here=True,
        )
        return [alone]

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Call *observer* with each event from now on; returns a function that ends that.

        It is called on this loop with one event at a time, and must not block. What it raises is
        logged.
        """
        if not self._services.loop.is_here():
            raise WrongLoop(repr(self))
        observers = self._services.find(Observers)
        observers.add(observer, self._directory)
        return lambda: observers.remove(observer, self._directory)

    def _sample(self, observer: Observer, missed: Callable[[int], object]) -> Callable[[], None]:
        """Call *observer* with a sample of the events, which is all while they are few, and
        *missed* with the number of deliveries left out; returns a function that ends that. Not for
        users."""
        if not self._services.loop.is_here():
            raise WrongLoop(repr(self))
        return self._services.find(Sampler).add(Client(observer, missed))

    def classes(self) -> list[type[DurableObject]]:
        """The classes that are in use, as their code is now; not for users."""
        return list(self._namespaces)

    def _register(self, cls: type[T]) -> Namespace[T]:
        if not (isinstance(cls, type) and issubclass(cls, DurableObject)):
            raise TypeError(f"namespace() takes a subclass of DurableObject, not {cls!r}")
        check_methods(cls)
        if not self._services.loop.is_here():
            raise WrongLoop(repr(self))
        if not self._services.is_open:
            raise RuntimeClosed
        naming = (self._script, cls.__name__)
        for other in self._classes:
            if other.record.naming == naming:
                self._redefine(other.cls, cls)
                return self._namespaces[cls]
        return self.add_class(self._record_of(naming), cls)

    def _record_of(self, naming: Naming) -> ClassRecord:
        """The store's record of a class, made if the class is new there."""
        while True:
            catalog = self._disks.catalog()
            record = check_usable(catalog, naming)
            if record is not None:
                return record
            record = catalog.new_class(naming)
            if self._disks.change_classes(catalog, catalog.replacing(record)):
                return record

    def add_class(self, record: ClassRecord, cls: type[T]) -> Namespace[T]:
        """*cls* is the code of the class *record* from now on; not for users."""
        entry = ClassEntry(cls, record, self._directory, self._disks)
        namespace = Namespace(entry)
        if record.script == self._script:
            self._namespaces[cls] = namespace
        else:
            self._namespaces.setdefault(cls, namespace)
        self._classes.add(cast("ClassEntry[DurableObject]", entry))
        for disk in self._disks:
            disk.ask()
        return namespace

    def replace(self, old: type[DurableObject], new: type[DurableObject]) -> None:
        """Run *new*, a later version of the class *old*, for its objects from now on.

        Those that are live are reset: their callers and old stubs get ObjectReset, their sockets
        are closed, and what was not committed is gone. The next call finds the new code. Raises
        UnknownClass if *old* is not in use, ValueError if *new* has another name, for which a
        migration is needed.
        """
        if not (isinstance(new, type) and issubclass(new, DurableObject)):
            raise TypeError(f"replace() takes subclasses of DurableObject, not {new!r}")
        check_methods(new)
        if not self._services.loop.is_here():
            raise WrongLoop(repr(self))
        replaced = [entry for entry in self._classes if entry.cls is old]
        if not replaced:
            raise UnknownClass(f"the runtime has no objects of {old!r}, so it cannot be replaced")
        if new.__name__ != old.__name__:
            raise ValueError(
                f"{old.__name__} cannot become {new.__name__} while the store is open; rename it "
                f"by a migration"
            )
        self._former.add(old)
        self._former.discard(new)
        self._namespaces[new] = self._namespaces.pop(old)
        for entry in replaced:
            entry.cls = new
        for activation in self._directory:
            if activation.cls is old:
                activation.break_(ObjectReset(CODE_UPDATED))
        for sockets in self._services.find(SocketTable):
            if sockets.cls is old:  # of an object that is not in memory
                sockets.disconnect_all()

    def _redefine(self, old: type[DurableObject], new: type[DurableObject]) -> None:
        if new in self._former or not _is_defined_again(old, new):
            raise two_of_one_name(new, old)
        self.replace(old, new)
        log.note(
            "%s.%s was defined again; its objects run the new code, and those in memory were reset",
            new.__module__,
            new.__qualname__,
        )

    async def close(self) -> None:
        """Close the store: let running code end for `Limits.shutdown_s_max` seconds, and commit
        what was written. Needed after `start()` only; the end of `async with` does it too.

        Closing again does nothing. WrongLoop from another loop or thread.
        """
        assert self._close is not None
        await self._close()

    def closes_by(self, close: Callable[[], Awaitable[None]]) -> None:
        """Set what closes the runtime; not for users."""
        self._close = close

    def __repr__(self) -> str:
        state = "open" if self._services.is_open else "closed"
        return f"<Runtime {state} of {self._path!r}, {len(self._directory)} live objects>"


def _is_defined_again(old: type, new: type) -> bool:
    """Whether *new* comes from the statement that once made *old*. Classes made by a function may
    differ in what they close over, so they do not count."""
    named = (new.__module__, new.__qualname__)
    return (old.__module__, old.__qualname__) == named and "<locals>" not in new.__qualname__


def two_of_one_name(cls: type, other: type) -> ValueError:
    """The error for two classes of one name that cannot be used together."""
    return ValueError(
        f"the store has objects of one class called {cls.__name__}, and that is "
        f"{other.__module__}.{other.__qualname__}; rename {cls.__module__}.{cls.__qualname__}, or "
        f"use another store for it. If it is a later version of that class, "
        f"runtime.replace(old, new) puts it in its place"
    )
