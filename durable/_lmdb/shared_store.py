"""A store of shards in a folder, for one of the processes of this machine that have it.

To own a shard is to hold the lock of its folder, which the operating system drops when the process
dies: no process has to guess whether an owner is alive, and there are no stale owners.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Event
from types import MappingProxyType
from typing import Final

from attrs import define, evolve, field

from durable._engine.catalog import Catalog
from durable._engine.engine import Engine
from durable._engine.shards import Owned, Process
from durable._model.clock import Clock
from durable._model.errors import DurableError, StoreInUse

from .environment import Environment, opened_here
from .folder import DATA_FILE, last_transaction, refusal
from .locks import FILE_MODE
from .looked_at import LookedAt
from .process_files import ProcessFiles
from .shared_folder import Layout, layout_of

# The catalog is held for a few milliseconds; a process that holds it longer than this is stopped.
CATALOG_TRIES: Final = 400
CATALOG_PAUSE_S: Final = 0.005
SOCKET: Final = "wire"
# The longest path that a unix socket can have on every system.
ADDRESS_SIZE_MAX: Final = 100
_OPEN_FILES: Final = "/proc/self/fd"


@define(eq=False, repr=False)
class SharedFolder:
    """A `SharedStore` in a folder."""

    layout: Layout
    me: Process
    _clock: Clock
    _files: ProcessFiles = field(init=False)
    _owned: dict[int, Environment] = field(factory=dict, init=False)
    _catalog: Catalog = field(factory=Catalog, init=False)
    # The last change of the catalog that was read; -1: it was not read.
    _catalog_seen: int = field(default=-1, init=False)
    _processes_fd: int = field(default=-1, init=False)
    _pause: Event = field(factory=Event, init=False)
    has_one_engine: bool = field(default=False, init=False)  # each shard is an environment

    @classmethod
    def open(
        cls, layout: Layout, clock: Clock, version: str, *, is_alone: bool = False
    ) -> SharedFolder:
        """The store; this process has not joined it yet."""
        process = f"{os.getpid()}-{secrets.token_hex(4)}"
        address = os.path.join(layout.processes, process, SOCKET)
        return cls(layout, Process(process, os.getpid(), address, version, is_alone), clock)

    def __attrs_post_init__(self) -> None:
        self._files = ProcessFiles(self.layout.processes)

    @property
    def path(self) -> str:
        return self.layout.path

    @property
    def identity(self) -> str:
        return self.layout.identity

    @property
    def count(self) -> int:
        return self.layout.count

    # Processes

    def join(self) -> None:
        """Join the processes. Raises StoreInUse if this one or another one requires to be alone."""
        # One at a time, so that of two that require to be alone one comes first.
        with self._catalog_held():
            for other in self._files.processes():
                if other.is_alone or self.me.is_alone:
                    raise StoreInUse(self.path, other.pid)
            self._files.announce(self.me)

    def say(self, state: str) -> None:
        self.me = evolve(self.me, state=state)
        self._files.update(self.me)

    def address(self, process: Process) -> str:
        """The socket of a process, by a path that is short enough for one."""
        if len(os.fsencode(process.address)) <= ADDRESS_SIZE_MAX:
            return process.address
        if not os.path.isdir(_OPEN_FILES):
            raise OSError(
                errno.ENAMETOOLONG,
                "the path is too long for the sockets of a shared store; give a shorter one",
                process.address,
            )
        if self._processes_fd < 0:
            self._processes_fd = os.open(self.layout.processes, os.O_RDONLY | os.O_CLOEXEC)
        return f"{_OPEN_FILES}/{self._processes_fd}/{process.id}/{SOCKET}"

    def folder(self) -> str:
        """The folder of this process's sockets."""
        return self._files.folder_of(self.me.id)

    def processes(self) -> list[Process]:
        return self._files.processes()

    def is_alive(self, process: str) -> bool:
        return self._files.is_alive(process)

    # Shards

    def owners(self) -> list[Owned]:
        return [self._owner(shard) for shard in range(self.count)]

    def _owner(self, shard: int) -> Owned:
        return _owner(self.layout, shard)

    def acquire_some(self, shards: Sequence[int]) -> dict[int, Engine]:
        acquired = {shard: self.acquire(shard) for shard in shards}
        return {shard: engine for shard, engine in acquired.items() if engine is not None}

    def acquire(self, shard: int) -> Engine | None:
        try:
            environment = Environment.open(self.layout.shard(shard), clock=self._clock)
        except StoreInUse:
            return None
        try:
            self._owned[shard] = environment
            self.follow(shard)
        except BaseException:
            self._owned.pop(shard, None)
            environment.close()
            raise
        return environment

    def has(self, shard: int) -> Owned:
        owned = Owned(self.me.id, self._owner(shard).epoch + 1)
        self._write_owner(shard, owned)
        return owned

    def follow(self, shard: int) -> None:
        """Read the classes of the store anew for a shard that is owned."""
        environment = self._owned[shard]
        known, catalog = environment.catalog(), self.catalog()
        if known != catalog:
            environment.change_classes(known, catalog)

    def lost(self, shards: Collection[int]) -> list[int]:
        return []  # a lock stays held

    def release(self, shard: int) -> Owned:
        owned = self._owner(shard)
        if owned.owner == self.me.id:
            owned = evolve(owned, owner=None)
            with suppress(OSError):
                self._write_owner(shard, owned)
        self._owned.pop(shard).close()
        return owned

    def _write_owner(self, shard: int, owned: Owned) -> None:
        """Record the owner of a shard. The shard is locked, and the file is small: a reader sees
        all of it or what was there before. After a power failure no process knows an epoch."""
        file = self.layout.owner(shard)
        part = f"{file}.part"
        text = json.dumps({"owner": owned.owner, "epoch": owned.epoch})
        try:
            fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
            try:
                os.write(fd, text.encode())
            finally:
                os.close(fd)
            os.replace(part, file)
        except OSError as error:
            raise refusal(error, file, "the owner of a shard writes its name there") from error

    # There is no lease: a lock does not expire

    @property
    def lease(self) -> None:
        return None

    def start(self, on_news: Callable[[], object], on_lost: Callable[[], object]) -> None:
        pass

    def look_soon(self) -> None:
        pass

    def refresh(self) -> None:
        pass

    def lose(self) -> None:
        raise AssertionError("a lock goes only with the process")

    join_again = lose

    # Classes

    def catalog(self) -> Catalog:
        if self._has_changed():
            with self._catalog_held() as environment:
                self._remember(environment)
        return self._catalog

    def change_classes(self, before: Catalog, after: Catalog) -> bool:
        with self._catalog_held() as environment:
            if environment.catalog() != before:
                self._remember(environment)
                return False
            environment.change_classes(before, after)
            self._remember(environment)
        for shard in list(self._owned):  # others are acquired in threads meanwhile, and follow
            self.follow(shard)
        return True

    def _has_changed(self) -> bool:
        try:
            return self._catalog_seen != last_transaction(self.layout.catalog)
        except (OSError, DurableError):
            return True

    def _remember(self, environment: Environment) -> None:
        self._catalog = environment.catalog()
        self._catalog_seen = last_transaction(self.layout.catalog)

    @contextmanager
    def _catalog_held(self) -> Iterator[Environment]:
        """The catalog, which no other process changes meanwhile. Raises StoreInUse if another
        process has held it for too long."""
        for left in reversed(range(CATALOG_TRIES)):
            try:
                environment = Environment.open(self.layout.catalog, clock=self._clock)
                break
            except StoreInUse as error:
                if not left:
                    raise StoreInUse(self.path, error.pid) from error
                self._pause.wait(CATALOG_PAUSE_S)
        try:
            yield environment
        finally:
            environment.close()

    # The end

    def leave(self) -> None:
        for shard in list(self._owned):
            self.release(shard)
        self._files.withdraw()
        fd, self._processes_fd = self._processes_fd, -1
        if fd >= 0:
            os.close(fd)

    def __repr__(self) -> str:
        return f"<SharedFolder {self.path!r}, {len(self._owned)} of {self.count} shards owned>"


def open_shards_to_read(
    layout: Layout, clock: Clock, owned: Mapping[int, Engine] = MappingProxyType({})
) -> list[Engine | None]:
    """The shards that other processes own, or none does, to be read; None for one that was never
    made, and for those that are *owned* by this process, which has them open."""
    opened: list[Engine | None] = []
    try:
        for number, folder in enumerate(layout.shards()):
            is_there = number not in owned and os.path.exists(os.path.join(folder, DATA_FILE))
            opened.append(_open_to_read(folder, clock) if is_there else None)
    except BaseException:
        for engine in opened:
            if engine is not None:
                engine.close()
        raise
    return opened


def _open_to_read(folder: str, clock: Clock) -> Engine:
    here = opened_here(folder)
    return LookedAt(here) if here is not None else Environment.open_to_read(folder, clock=clock)


def processes_of(path: str) -> list[tuple[Process, str]]:
    """The processes that share the store in the folder *path*, each with a folder of its own; none
    if it is not a store of shards."""
    layout = layout_of(path)
    if layout is None:
        return []
    files = ProcessFiles(layout.processes)
    return [(process, files.folder_of(process.id)) for process in files.processes()]


def owners_of(path: str) -> list[Owned]:
    """The present or last owners of the shards of the store in *path*; [] if it has no shards."""
    layout = layout_of(path)
    return [] if layout is None else [_owner(layout, shard) for shard in range(layout.count)]


def _owner(layout: Layout, shard: int) -> Owned:
    try:
        with open(layout.owner(shard), encoding="utf-8") as opened:
            said = json.load(opened)
        return Owned(said["owner"], said["epoch"])
    except (OSError, ValueError, KeyError):
        return Owned(None)


def read_catalog(layout: Layout, clock: Clock) -> Catalog:
    """The classes and migrations of a store, for a process that has not joined it."""
    if not os.path.exists(os.path.join(layout.catalog, DATA_FILE)):
        return Catalog()  # the process that was making the store died
    environment = Environment.open_to_read(layout.catalog, clock=clock)
    try:
        return environment.catalog()
    finally:
        environment.close()
