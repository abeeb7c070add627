"""Debug mode: reports what a developer's own objects do wrong, while it happens.

`durable.open(..., debug=True)` makes activations of this kind. Reported are: a value that was read
before a wait on the outside and is written after it (for SQL: `row_updates`), a step of a handler
or a query of SQL that held up the loop, a global that two objects' code has changed, and a call
that no code waited for when the runtime closed. Nothing else changes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from functools import partial
from types import CoroutineType
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

from attrs import define, field

from durable._engine.batch import ObjectHandle
from durable._gates.delivery import CURRENT, Delivery
from durable._gates.input_gate import InputGate
from durable._loop.steps import Steps
from durable._model.clock import SystemClock
from durable._model.log import log
from durable._object.activation import Activation
from durable._object.invocation import Invocation
from durable._object.services import Services
from durable._storage.kv import KeyValues
from durable._storage.object_storage import ObjectStorage
from durable._storage.savepoint import Savepoint
from durable._storage.storage import Storage
from durable._storage.transaction import Transaction
from durable._storage.watched_queries import EndedQuery

from .row_updates import REMEMBERED_MAX, RowUpdates, Site, shown, site_outside
from .shared_globals import SharedGlobals, Step

# A step of a handler that takes longer than this keeps all other tasks of the loop waiting.
BLOCKING_S_MAX = 0.05
# The globals that each runtime in debug mode watches.
_shared_globals: WeakKeyDictionary[Services, SharedGlobals] = WeakKeyDictionary()


@define(eq=False, slots=True)
class WatchedGate(InputGate[Delivery[Any]]):
    """An input gate that counts the turns."""

    turns: int = 0

    def _end_turn(self) -> Delivery[Any] | None:
        self.turns += 1
        return InputGate._end_turn(self)


@define(eq=False, slots=True)
class Reads:
    """The reads of each delivery of one object, and the turn of each."""

    gate: WatchedGate
    label: Callable[[], str]
    _read: dict[Delivery[Any], dict[str, tuple[int, Site]]] = field(factory=dict)

    def reads(self, key: str | Iterable[str]) -> None:
        """The delivery under way reads *key*."""
        delivery = CURRENT.get()
        if delivery is None:
            return
        if len(self._read) > REMEMBERED_MAX:
            self._read = {d: keys for d, keys in self._read.items() if not d.has_left}
        found = self._read.setdefault(delivery, {})
        seen = self.gate.turns, site_outside()
        found.update(dict.fromkeys(_keys(key), seen))

    def writes(self, key: str | Iterable[str]) -> None:
        """It writes *key*: it must have read it in this turn, or not at all."""
        delivery = CURRENT.get()
        found = self._read.get(delivery) if delivery is not None else None
        if not found:
            return
        for single in found.keys() & _keys(key):
            turn, site = found[single]
            if turn != self.gate.turns:
                found[single] = self.gate.turns, site
                self._warn(single, site)

    def _warn(self, key: str, site: Site) -> None:
        file, line = site_outside()
        warnings.warn_explicit(
            f"{self.label()} read {key!r} at {site[0]}:{site[1]}, then waited for the outside, and "
            f"now writes it: what other events wrote meanwhile is lost. Read it again after the "
            f"wait, or keep the others out with ctx.block_concurrency_while()",
            RuntimeWarning,
            file,
            line,
            registry=shown,
        )


class _RemembersReads:
    """For a class with `get` and `put`: remembers what they read and write."""

    __slots__ = ()

    _reads: Reads

    def get(self, key: Any, default: Any = None, **options: Any) -> Any:
        found = super().get(key, default, **options)  # type: ignore[misc]
        self._reads.reads(key)
        return found

    def put(self, key: Any, *value: Any, **options: Any) -> Any:
        stored = super().put(key, *value, **options)  # type: ignore[misc]
        self._reads.writes(key)
        return stored


class WatchedStorage(_RemembersReads, Storage):
    """`ctx.storage` that remembers what was read."""

    __slots__ = ("_reads",)

    def __init__(self, of: Storage, reads: Reads) -> None:
        super().__init__(of._records, of._clock, of._alarms, of._sections, of._owner)
        self._reads = reads

    def _begin(self, savepoint: Savepoint) -> Transaction:
        return WatchedTransaction(super()._begin(savepoint), self._reads)

    @property
    def kv(self) -> KeyValues:
        if self._kv is None:
            self._kv = WatchedKeyValues(self._records, self._reads)
        return self._kv


class WatchedTransaction(_RemembersReads, Transaction):
    """`txn` that remembers it too."""

    __slots__ = ("_reads",)

    def __init__(self, of: Transaction, reads: Reads) -> None:
        super().__init__(of._records, of._clock, of._alarms, of._savepoint)
        self._reads = reads


class WatchedKeyValues(_RemembersReads, KeyValues):
    """`ctx.storage.kv` that remembers it too."""

    __slots__ = ("_reads",)

    def __init__(self, records: Any, reads: Reads) -> None:
        super().__init__(records)
        self._reads = reads


class WatchedActivation(Activation):
    """An activation that watches what its object does."""

    __slots__ = ("row_updates", "sites")

    gate_class: ClassVar[type[InputGate[Any]]] = WatchedGate

    def __init__(self, *args: Any) -> None:
        # The places of the calls that have no answer yet.
        self.sites: dict[Invocation[Any], Site] = {}
        self.row_updates = RowUpdates(lambda: self.label, lambda: self.storage.buffer.undone)
        super().__init__(*args)

    def _make_storage(self, handle: ObjectHandle) -> ObjectStorage:
        storage = super()._make_storage(handle)
        assert isinstance(self.gate, WatchedGate)
        storage.storage = WatchedStorage(storage.storage, Reads(self.gate, lambda: self.label))
        return storage

    def deliver(self, event: Invocation[Any]) -> None:
        self.sites[event] = site_outside()
        what = f"{event.label}() of {self.label}"
        event.watch(lambda body: partial(_run_watched, body, what, self.new_step))
        super().deliver(event)

    def new_step(self) -> Step:
        """A context manager around one step of the object's code."""
        shared = _shared_globals.get(self.services)
        if shared is None:
            shared = _shared_globals[self.services] = SharedGlobals()
        return Step(shared, self.cls, str(self.id), self.label)

    def _construct(self) -> None:
        try:
            with self.new_step():
                super()._construct()
        except RuntimeWarning as error:  # if warnings are errors
            self.fail(error)

    def invocation_ended(self, event: Invocation[Any], error: BaseException | None) -> None:
        self.sites.pop(event, None)
        super().invocation_ended(event, error)

    def queried(self, query: EndedQuery) -> None:
        super().queried(query)
        if query.touched is not None:
            self.row_updates.note(query.touched)
        if query.duration_s > BLOCKING_S_MAX:
            log.warning(
                "a query of %s held up the event loop for %.0f ms, reading %d rows and writing %d; "
                "EXPLAIN QUERY PLAN says what it searches, which an index may shorten: %s",
                self.label,
                query.duration_s * 1_000,
                query.rows_read,
                query.rows_written,
                query.shown,
            )

    def report_unawaited(self) -> None:
        """The runtime closes: report the calls that run and that no code waits for."""
        for event in self.open:
            if event.is_waited_for and event._waiting is None and event in self.sites:
                file, line = self.sites[event]
                warnings.warn_explicit(
                    f"{event.label}() of {self.label} was called and not awaited, and is still "
                    f"under way as the runtime closes: no code gets its error",
                    RuntimeWarning,
                    file,
                    line,
                    registry=shown,
                )


def _run_watched(body: Callable[[], Any], what: str, new_step: Callable[[], Step]) -> Any:
    start_s = SystemClock.steady()
    with new_step():
        value = body()
    if hasattr(value, "__await__"):
        coro = value if type(value) is CoroutineType else _await(value)
        return _WatchedSteps(coro, what, new_step)
    _report_blocking(start_s, what, value)
    return value


async def _await(value: Any) -> Any:
    return await value


class _WatchedSteps(Steps):
    """Steps that are timed, and whose changes of globals are watched."""

    __slots__ = ("_new_step", "_what")

    def __init__(self, coro: Any, what: str, new_step: Callable[[], Step]) -> None:
        super().__init__(coro)
        self._what = what
        self._new_step = new_step

    def step(self, resume: Callable[..., Any], *args: Any) -> Any:
        start_s = SystemClock.steady()
        try:
            with self._new_step():
                return resume(*args)
        finally:
            _report_blocking(start_s, self._what, self.cr_await)


def _report_blocking(start_s: float, what: str, value: Any) -> None:
    took_s = SystemClock.steady() - start_s
    if took_s <= BLOCKING_S_MAX:
        return
    frame = getattr(value, "cr_frame", None)
    where = f", up to {frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else ""
    log.warning(
        "%s held up the event loop for %.0f ms%s; hand work that takes long to a thread",
        what,
        took_s * 1_000,
        where,
    )


def _keys(key: str | Iterable[str]) -> set[str]:
    return {key} if isinstance(key, str) else set(key)
