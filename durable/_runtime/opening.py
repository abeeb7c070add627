"""Opening a store: `durable.open` from Python, `durable.open_config` from a TOML file."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, ClassVar

import anyio

from durable._border.durable_object import DurableObject, check_methods
from durable._control.server import wants_control_socket
from durable._deploy.config import read_config
from durable._deploy.loading import load_programs, store_folder
from durable._deploy.migrations import Migration
from durable._deploy.modules import Fetch
from durable._deploy.programs import Program
from durable._engine.codec import Codec, MsgpackCodec
from durable._engine.shards import SHARDS_MAX
from durable._model.clock import Clock, SystemClock
from durable._model.errors import StoreInUse
from durable._model.limits import Limits
from durable._model.observer import Observer
from durable._model.peers import Peers

from .engines import is_of_shards, is_url, shown
from .open_shared import OpenSharedStore
from .open_store import OpenStore, Options, let_go_of_left
from .runtime import Runtime, two_of_one_name

# The pause between attempts while the store has another owner. Each attempt costs 0.1 ms; in a
# database it costs two connections.
TRY_AGAIN_S = 0.05
TRY_DATABASE_AGAIN_S = 0.2


class Opening:
    """An async context manager that opens one store and returns its runtime; not for users."""

    _store_class: ClassVar[type[OpenStore]] = OpenStore
    _shared_class: ClassVar[type[OpenStore]] = OpenSharedStore

    def __init__(
        self,
        path: str,
        programs: Sequence[Program],
        *,
        limits: Limits | None,
        clock: Clock | None,
        codec: Codec | None,
        reads: str,
        observer: Observer | None,
        operate: bool | None,
        scratch: bool,
        debug: bool,
        wait_s: float,
        shared: bool,
        shards: int | None,
        peers: Peers | None,
    ) -> None:
        _check_shared(shared, shards, scratch)
        if is_url(path):
            _check_database(shared)
        _check_peers(peers, path, scratch)
        if isinstance(wait_s, bool) or not isinstance(wait_s, int | float) or not wait_s >= 0:
            raise ValueError(f"wait_s must be a number of seconds from 0 on, not {wait_s!r}")
        if reads not in {"inline", "thread"}:
            raise ValueError(f'reads must be "inline" or "thread", not {reads!r}')
        _check_parts(limits, clock, codec, observer)
        self._path = path
        self._programs = programs
        self._options = Options(
            limits or Limits(),
            clock or SystemClock(),
            codec or MsgpackCodec(),
            reads,
            observer=observer,
            # The socket is the owner's.
            operate=not scratch and (wants_control_socket() if operate is None else operate),
            scratch=scratch,
            debug=debug,
            shared=shared,
            shards=shards,
            peers=peers,
        )
        self._wait_s = wait_s
        self._open: OpenStore | None = None
        # Warns if the runtime of `start` is dropped while it is open.
        self._unclosed: weakref.finalize[[str], Runtime] | None = None

    async def start(self) -> Runtime:
        """Open the store without a block, for notebooks and frameworks with hooks of their own:

            runtime = await durable.open("state").start()
            ...
            await runtime.close()

        The same as entering the block, and raises the same; RuntimeError the second time. A runtime
        that is dropped without being closed causes a ResourceWarning, and its store stays open
        until the event loop has ended.
        """
        runtime = await self.__aenter__()
        self._unclosed = weakref.finalize(runtime, _warn_unclosed, shown(self._path))
        self._unclosed.atexit = False
        return runtime

    async def close(self) -> None:
        """Close the store, as leaving the block does; nothing if it is not open, or not any more.

        A second call while the first is under way waits for the same end. WrongLoop from another
        loop or thread than the one that opened it.
        """
        if self._unclosed is not None:
            self._unclosed.detach()
        if self._open is not None:
            await self._open.close()

    async def __aenter__(self) -> Runtime:
        if self._open is not None:
            raise RuntimeError("durable.open() gives one runtime; call it again for another")
        until = anyio.current_time() + self._wait_s
        while True:
            let_go_of_left()
            try:
                self._open = self._class()(self._path, self._options)
                runtime = await self._open.start(self._programs)
                break
            except (StoreInUse, BlockingIOError):
                self._open = None
                left = until - anyio.current_time()
                if left <= 0:
                    raise
                again_s = TRY_DATABASE_AGAIN_S if is_url(self._path) else TRY_AGAIN_S
                await anyio.sleep(min(left, again_s))
        runtime.closes_by(self.close)
        return runtime

    def _class(self) -> type[OpenStore]:
        """The class that opens the store: by the options, and by what kind of store it is."""
        if not self._options.scratch and (
            self._options.shared or is_url(self._path) or is_of_shards(self._path)
        ):
            return self._shared_class
        return self._store_class

    @property
    def _is_left(self) -> bool:
        """Whether the event loop that opened the store has ended without closing it."""
        return self._open is not None and self._open.is_left

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()


def _check_shared(shared: object, shards: object, scratch: bool) -> None:
    if not isinstance(shared, bool):
        raise TypeError(f"shared must be True or False, not {shared!r}")
    if shards is not None:
        if isinstance(shards, bool) or not isinstance(shards, int):
            raise TypeError(f"shards must be a whole number, not {shards!r}")
        if not 1 <= shards <= SHARDS_MAX:
            raise ValueError(f"shards must be from 1 to {SHARDS_MAX:,}, not {shards:,}")
        if not shared:
            raise ValueError("shards is for a store that processes share: give shared=True, too")
    if shared and scratch:
        raise ValueError("scratch writes cannot be shared with other processes: leave out shared")


def _check_parts(limits: object, clock: object, codec: object, observer: object) -> None:
    if limits is not None and not isinstance(limits, Limits):
        raise TypeError(f"limits must be a durable.Limits, not {limits!r}")
    for name, part, kind in ("clock", clock, Clock), ("codec", codec, Codec):
        # A class has the methods too, and is not what they can be called on.
        if part is not None and (isinstance(part, type) or not isinstance(part, kind)):
            methods = f"durable.{kind.__name__}"
            raise TypeError(f"{name} must be an object with the methods of {methods}, not {part!r}")
    if observer is not None and not callable(observer):
        raise TypeError(f"an observer is a callable that takes one event, not {observer!r}")


def _check_database(shared: bool) -> None:
    if shared:
        raise ValueError(
            "shared is for a folder that processes of one machine share; for a database give peers"
        )


def _check_peers(peers: object, path: str, scratch: bool) -> None:
    if peers is None:
        return
    if not isinstance(peers, Peers):
        raise TypeError(f"peers must be a durable.Peers, not {peers!r}")
    if not is_url(path):
        raise ValueError(
            f"peers is for a store on PostgreSQL, and {path!r} is a folder: give the URL of a "
            f"database, or shared=True for other processes of this machine"
        )
    if scratch:
        raise ValueError("scratch writes cannot be shared with other processes: leave out peers")


def _warn_unclosed(path: str) -> None:
    warnings.warn(
        f"the runtime of the store {path!r} was dropped without being closed, and the store stays "
        f"open until its event loop has ended; keep the runtime and `await runtime.close()`",
        ResourceWarning,
        stacklevel=2,
    )


class open(Opening):
    """Open the store in the folder *path*, made if it does not exist, or in a database.

        async with durable.open("state", bindings={"COUNTERS": Counter}) as runtime:
            stub = runtime.env.COUNTERS.get_by_name("front page")

    *path* may be the URL of a PostgreSQL database ("postgresql://db.example/app"), in which
    `durable init URL` has made the tables; this needs `durable-objects[postgres]`. Reads of what is
    not in memory then wait for the network, in the event loop unless *reads* is "thread".

    *bindings*: classes, or names of variables of `env` for them; *vars*: further variables of
    `env`; *migrations*: the history of the classes, of which the store applies what it has not seen
    yet; *script*: the program that the classes belong to, where several share a store; *limits*,
    *clock* and *codec*: replace the usual ones; *reads*: "inline" reads what is not in memory at
    once, "thread" in a thread of its own, for stores larger than memory; *observer*: a callable
    that is called with each event, `print` for instance; *operate*: open a socket, in the folder or
    for a database in a temporary one, for `durable tail` and `durable top` on this machine (None:
    if DURABLE_OPERATE is set to 1); *scratch*: read the store, keep what is written in memory, and
    forget it at the end, to try things on real data, beside the owner if there is one; only alarms
    that are set meanwhile ring; *debug*: report what objects do wrong: a value that is read before
    a wait on the outside and written after it, a step that blocks the event loop, a global that the
    code of two objects changes, a call that was not awaited by the end; *wait_s*: how many seconds
    to wait for another owner to go, as in a reload or a rolling update; *shared*: share the store
    with other processes of this machine, each object being in one of them at a time; *shards*: into
    how many parts a shared store is divided for that, fixed when it is made (None: as it is, 16 for
    a new one, 1 for a folder that was not shared); *peers*: share a store on PostgreSQL with
    processes of other machines, and how they meet.

    Raises StoreInUse if another process or another `open` has the store, StoreDamaged,
    FormatTooNew, MigrationConflict, StoreUnavailable, and OSError if the folder cannot be used or
    the database has no store. An exception of the body passes unchanged.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        bindings: Mapping[str, type[DurableObject]] | None = None,
        vars: Mapping[str, Any] | None = None,
        migrations: Sequence[Migration] = (),
        script: str | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        codec: Codec | None = None,
        reads: str = "inline",
        observer: Observer | None = None,
        operate: bool | None = None,
        scratch: bool = False,
        debug: bool = False,
        wait_s: float = 0.0,
        shared: bool = False,
        shards: int | None = None,
        peers: Peers | None = None,
    ) -> None:
        if bindings is not None and not isinstance(bindings, Mapping):
            raise TypeError(
                f"bindings are a mapping of names to classes, such as {{'COUNTERS': Counter}}, "
                f"not {type(bindings).__name__}"
            )
        program = _program(dict(bindings or {}), dict(vars or {}), tuple(migrations), script)
        super().__init__(
            os.fspath(path),
            [program],
            limits=limits,
            clock=clock,
            codec=codec,
            reads=reads,
            observer=observer,
            operate=operate,
            scratch=scratch,
            debug=debug,
            wait_s=wait_s,
            shared=shared,
            shards=shards,
            peers=peers,
        )


def _program(
    bindings: Mapping[str, type[DurableObject]],
    variables: Mapping[str, Any],
    migrations: tuple[Migration, ...],
    script: str | None,
) -> Program:
    classes: dict[str, type[DurableObject]] = {}
    for name, cls in bindings.items():
        if not isinstance(name, str) or not name.isidentifier():
            raise ValueError(f"a binding's name must be an identifier, not {name!r}")
        if not (isinstance(cls, type) and issubclass(cls, DurableObject)):
            raise TypeError(f"the binding {name} must be a subclass of DurableObject, not {cls!r}")
        check_methods(cls)
        if name in variables:
            raise ValueError(f"env.{name} would be a binding and a variable; rename one of them")
        other = classes.setdefault(cls.__name__, cls)
        if other is not cls:
            raise two_of_one_name(cls, other)
    for migration in migrations:
        if not isinstance(migration, Migration):
            raise TypeError(
                f"migrations are durable.Migration, not {migration!r}; make one of a table with "
                f"Migration(**table)"
            )
    if script is not None and (not isinstance(script, str) or not script):
        raise ValueError(f"a script's name must be a text that is not empty, not {script!r}")
    named = {name: (script, cls.__name__) for name, cls in bindings.items()}
    return Program(script, classes, named, variables, migrations)


class open_config(Opening):
    """Open the store that a TOML file describes, with the tables of `wrangler.toml`.

        async with durable.open_config("durable.toml", environment="staging") as runtime:
            stub = runtime.env.COUNTERS.get_by_name("front page")

    *environment*: a NAME of the file's `[env.NAME]`; *path*, *wait_s*, *shared* and *peers* replace
    those of the file; the other arguments are those of `durable.open`.
    `fetch` is the entry function of the main module, if it has one.

    Raises InvalidConfig, at the call, and what `durable.open` raises. What the main module raises
    passes unchanged.
    """

    def __init__(
        self,
        file: str | os.PathLike[str],
        *,
        path: str | os.PathLike[str] | None = None,
        environment: str | None = None,
        limits: Limits | None = None,
        clock: Clock | None = None,
        codec: Codec | None = None,
        reads: str = "inline",
        observer: Observer | None = None,
        operate: bool | None = None,
        scratch: bool = False,
        debug: bool = False,
        wait_s: float | None = None,
        shared: bool | None = None,
        shards: int | None = None,
        peers: Peers | None = None,
    ) -> None:
        config = read_config(file, environment)
        folder = store_folder(config, path)
        programs, main = load_programs(config)
        self.fetch: Fetch | None = main.fetch
        super().__init__(
            folder,
            programs,
            limits=limits,
            clock=clock,
            codec=codec,
            reads=reads,
            observer=observer,
            operate=operate,
            scratch=scratch,
            debug=debug,
            wait_s=config.script.wait_s if wait_s is None else wait_s,
            shared=config.script.shared if shared is None else shared,
            shards=shards,
            peers=config.script.peers if peers is None else peers,
        )
