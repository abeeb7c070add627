"""`ctx.storage` as Cloudflare's Python has it, over the library's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar

from durable import KeyValues, Storage, Transaction

from .crossing import inward, outward
from .dates import JsDate, milliseconds
from .errors import errors_of_javascript
from .javascript import JsTypeError, callable_of, js_text
from .js_collections import JsArray, JsMap, JsObject, options_of
from .promises import Promise, settled
from .spelling import BothCases, keywords
from .sql import SqlStorage

_READ = ("allow_concurrency", "no_cache")
_WRITE = ("allow_unconfirmed", "allow_concurrency", "no_cache")
_LIST = ("start", "start_after", "end", "prefix", "reverse", "limit")


def _keys(given: Any) -> Any:
    """A key, or a list of them."""
    return list(given) if isinstance(given, JsArray | list | tuple | set) else js_text(given)


def _entries(given: Any) -> dict[str, Any] | None:
    """The entries of a `put` of several keys; None for another kind of argument."""
    if isinstance(given, JsObject):
        given = given.as_object_map()
    if isinstance(given, Mapping | JsMap):
        return {js_text(key): outward(value) for key, value in given.items()}
    return None


class _KeysAndAlarm(BothCases):
    """The calls that a transaction has too. Options are a dict, an object of JavaScript, or
    keywords."""

    _storage: Storage | Transaction

    def get(self, key: Any, options: Any = None, **more: Any) -> Promise:
        given = keywords(options_of(options, more), *_READ)
        with errors_of_javascript():
            return Promise(self._storage.get(_keys(key), **given), inward)

    def put(self, key: Any, *rest: Any, **more: Any) -> Promise:
        entries = _entries(key)
        if entries is None and not rest:
            raise JsTypeError("put() called with undefined value.")
        options = (rest[1:] if entries is None else rest) or (None,)
        given = keywords(options_of(options[0], more), *_WRITE)
        value = None if entries is not None else outward(rest[0])
        with errors_of_javascript():
            if entries is not None:
                return Promise(self._storage.put(entries, **given))
            return Promise(self._storage.put(js_text(key), value, **given))

    def delete(self, key: Any, options: Any = None, **more: Any) -> Promise:
        given = keywords(options_of(options, more), *_WRITE)
        with errors_of_javascript():
            return Promise(self._storage.delete(_keys(key), **given))

    def list(self, options: Any = None, **more: Any) -> Promise:
        given = keywords(options_of(options, more), *_LIST, *_READ)
        with errors_of_javascript():
            return Promise(self._storage.list(**given), inward)

    def getAlarm(self, options: Any = None, **more: Any) -> Promise:
        """The time of the alarm in POSIX milliseconds, or None."""
        with errors_of_javascript():
            return Promise(self._storage.get_alarm(), _milliseconds_or_none)

    def setAlarm(self, scheduledTime: Any, options: Any = None, **more: Any) -> Promise:
        """Set the alarm, by POSIX milliseconds, a datetime or a Date."""
        ms = _milliseconds_of(scheduledTime)
        with errors_of_javascript():
            return Promise(self._storage.set_alarm(ms / 1000))

    def deleteAlarm(self, options: Any = None, **more: Any) -> Promise:
        with errors_of_javascript():
            return Promise(self._storage.delete_alarm())


def _milliseconds_of(time: Any) -> int:
    """POSIX milliseconds, given as such, as a datetime or as a Date."""
    if isinstance(time, JsDate):
        return time.getTime()
    return milliseconds(time) if isinstance(time, datetime) else int(time)


def _milliseconds_or_none(at: datetime | None) -> int | None:
    return None if at is None else milliseconds(at)


class DurableObjectTransaction(_KeysAndAlarm):
    """The argument of a transaction's closure."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._storage = transaction

    def rollback(self) -> None:
        self._transaction.rollback()


class DurableObjectStorage(_KeysAndAlarm):
    """An object's storage. Each call acts at once; it returns a promise where Cloudflare's does."""

    not_here: ClassVar[Mapping[str, str]] = {
        "ensureReplicas": "there are none",
        "disableReplicas": "there are none",
    }

    def __init__(self, storage: Storage) -> None:
        self._own = storage
        self._storage = storage

    @property
    def kv(self) -> SyncKvStorage:
        return SyncKvStorage(self._own.kv)

    @property
    def sql(self) -> SqlStorage:
        return SqlStorage(self._own)

    def deleteAll(self, options: Any = None, **more: Any) -> Promise:
        with errors_of_javascript():
            return Promise(self._own.delete_all())

    def transaction(self, closure: Callable[..., Any]) -> Promise:
        fn = callable_of(closure)

        async def run(transaction: Transaction) -> Any:
            return await settled(fn(DurableObjectTransaction(transaction)))

        with errors_of_javascript():
            return Promise(self._own.transaction(run))

    def transactionSync(self, closure: Callable[[], Any]) -> Any:
        """Run *closure*, which does not wait; what it writes is kept, or undone if it raises."""
        return self._own.transaction_sync(callable_of(closure))

    def sync(self) -> Promise:
        return Promise(self._own.sync())

    # Going back

    def getCurrentBookmark(self) -> Promise:
        with errors_of_javascript():
            return Promise(self._own.get_current_bookmark())

    def getBookmarkForTime(self, timestamp: Any) -> Promise:
        """A bookmark of a time, by POSIX milliseconds, a datetime or a Date, or of up to a minute
        earlier."""
        with errors_of_javascript():
            at = JsDate(_milliseconds_of(timestamp)).instant
            return Promise(self._own.get_bookmark_for_time(at))

    def onNextSessionRestoreBookmark(self, bookmark: str) -> Promise:
        """Go back to *bookmark* when the object is built next, after `ctx.abort()` for instance.
        Returns a bookmark of this moment, which undoes it."""
        with errors_of_javascript():
            return Promise(self._own.on_next_session_restore_bookmark(js_text(bookmark)))


class SyncKvStorage(BothCases):
    """`ctx.storage.kv`: the keys, without `await`."""

    def __init__(self, kv: KeyValues) -> None:
        self._kv = kv

    def get(self, key: str) -> Any:
        with errors_of_javascript():
            return inward(self._kv.get(js_text(key)))

    def put(self, key: str, value: Any) -> None:
        kept = outward(value)
        with errors_of_javascript():
            self._kv.put(js_text(key), kept)

    def delete(self, key: str) -> bool:
        with errors_of_javascript():
            return bool(self._kv.delete(js_text(key)))

    def list(self, options: Any = None, **more: Any) -> Iterator[Any]:
        """Pairs of key and value."""
        given = keywords(options_of(options, more), *_LIST)
        with errors_of_javascript():
            found = self._kv.list(**given)
        return iter([[key, inward(value)] for key, value in found.items()])
