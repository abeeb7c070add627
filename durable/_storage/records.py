"""The records of one object: the calls on its keys, under whatever name they are made.

Each call acts at once. What it returns is either known, or a `Miss`: what to ask the disk, and how
to make the answer of what the disk says. `answer` makes an awaitable of it, `now` a plain value.

Rule: what an answer is made of is fixed at the call. Writes made later are not in it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Never, TypeAlias, TypeVar, cast

from attrs import define, field

from durable._gates.futures import Answer, ReadyAnswer
from durable._gates.input_gate import InputGate
from durable._gates.storage_wait import StorageWait
from durable._loop import here
from durable._model.errors import DurableError, StoreDamaged
from durable._model.limits import Limits
from durable._model.storage_errors import ValueTooLarge

from .arguments import HOW_TO_PUT, UNSET, Unset, check_key, check_keys, check_pairs
from .cache import UNKNOWN, Cache, Known
from .listing import bounds, check_limit
from .parts import KEYS_PER_PART, Count, KnownList, Parts, StoredKeys, StoredList
from .write_buffer import CANNOT_DELETE_ALL, WriteBuffer

if TYPE_CHECKING:
    from durable._engine.engine import Reader
    from durable._engine.read_thread import Reads

T = TypeVar("T")
R = TypeVar("R")

Keys: TypeAlias = list[str]
Nothing: TypeAlias = list[Never] | dict[Never, Never] | set[Never] | tuple[()] | None
"""A default that says nothing of the type of what is stored: none, or an empty container."""

IN_PARTS = (StoredList, StoredKeys, KnownList, Count)


class Miss(Generic[T]):
    """What the cache does not have: a read that has to go to the disk."""

    __slots__ = ("read", "take")

    def __init__(self, read: Callable[[Reader], R], take: Callable[[R], T]) -> None:
        self.read: Callable[[Reader], Any] = read
        self.take: Callable[[Any], T] = take


@define(eq=False, slots=True, weakref_slot=False)
class Records:
    """What one object has stored, as its cache, its write buffer and the disk have it together."""

    cache: Cache
    buffer: WriteBuffer
    gate: InputGate[Any]
    reads: Reads = field(repr=False)
    limits: Limits = field(repr=False)
    encode: Callable[[Any], bytes] = field(repr=False)
    decode: Callable[[bytes], Any] = field(repr=False)

    # Reading

    def find(self, key: str | Iterable[str], default: Any, *, no_cache: bool) -> Any | Miss[Any]:
        # The common way is one function, with nothing made on it that the answer does not need.
        self.gate.check()
        if not isinstance(key, str):
            return self._find_many(key, default, no_cache)
        key = check_key(key, self.limits.key_size_max)
        cache = self.cache
        try:
            value = cache.lookup(key)
            if value is UNKNOWN:
                reads = self.reads
                if not reads.inline:
                    return self._miss(key, default, no_cache)
                value = reads.get(self.buffer.handle.keyspace, key)
                if not no_cache:
                    cache.learn_one(key, value)
            return default if value is None else self.decode(value)
        except StoreDamaged as error:
            raise self.damaged(error) from error

    def _miss(self, key: str, default: Any, no_cache: bool) -> Miss[Any]:
        cache, decode, keyspace = self.cache, self.decode, self._keyspace
        epoch = cache.epoch

        def take(value: Known) -> Any:
            if not no_cache:
                cache.learn(epoch, ((key, value),))
            return default if value is None else decode(value)

        return Miss(lambda reader: reader.get(keyspace, key), take)

    def _find_many(
        self, keys: Iterable[str], default: Any, no_cache: bool
    ) -> dict[str, Any] | Miss[dict[str, Any]]:
        if default is not None:
            raise TypeError(
                "get() takes a default only with a single key; keys that are missing "
                "are left out of the dict that get([...]) returns"
            )
        cache, decode = self.cache, self.decode
        found: dict[str, Known] = {}
        missing: list[str] = []
        for key in self._check_keys(keys, "get()"):
            value = self.cache.lookup(key)
            if value is UNKNOWN:
                missing.append(key)
                found[key] = None  # keeps the place
            else:
                found[key] = value

        def decoded() -> dict[str, Any]:
            return {key: decode(value) for key, value in found.items() if value is not None}

        if not missing:
            try:
                return decoded()
            except StoreDamaged as error:
                raise self.damaged(error) from error
        keyspace, epoch = self._keyspace, cache.epoch

        def take(stored: Mapping[str, bytes]) -> dict[str, Any]:
            if not no_cache:
                cache.learn(epoch, [(key, stored.get(key)) for key in missing])
            found.update(stored)
            return decoded()

        return Miss(lambda reader: reader.get_many(keyspace, missing), take)

    def find_list(
        self,
        *,
        start: str | None,
        start_after: str | None,
        end: str | None,
        prefix: str | None,
        reverse: bool,
        limit: int | None,
        keys_only: bool = False,
        no_cache: bool,
    ) -> dict[str, Any] | Keys | Parts[dict[str, Any] | Keys]:
        self.gate.check()
        key_range = bounds("list()", start=start, start_after=start_after, end=end, prefix=prefix)
        limit = check_limit(limit)
        if key_range is None:
            return [] if keys_only else {}
        known = self.cache.select(key_range, reverse=reverse, limit=limit)
        if known is None:
            if keys_only:
                return StoredKeys(self.cache, self._keyspace, key_range, reverse, limit)
            return StoredList(
                self.cache, self.decode, self._keyspace, key_range, reverse, limit, not no_cache
            )
        if keys_only:
            return [key for key, _ in known]
        if len(known) > KEYS_PER_PART:
            return KnownList(known, self.decode)
        decode = self.decode
        try:
            return {key: decode(value) for key, value in known}
        except StoreDamaged as error:
            raise self.damaged(error) from error

    def count(
        self, *, start: str | None, start_after: str | None, end: str | None, prefix: str | None
    ) -> int | Parts[int]:
        self.gate.check()
        key_range = bounds("count()", start=start, start_after=start_after, end=end, prefix=prefix)
        if key_range is None:
            return 0
        known = self.cache.select(key_range, reverse=False, limit=None)
        return Count(self.cache, self._keyspace, key_range) if known is None else len(known)

    # Writing

    def put(
        self,
        key: str | Mapping[str, Any],
        value: Any | Unset,
        *,
        allow_unconfirmed: bool,
        no_cache: bool,
    ) -> None:
        # Further down only the first write of a turn looks at the thread.
        if here.thread() != self.gate.thread:
            self.gate.check()
        if value is UNSET:
            limits = self.limits
            pairs = check_pairs(
                cast("Mapping[str, Any]", key), limits.key_size_max, limits.keys_per_call_max
            )
            # All of it is checked before any of it is done.
            encoded = [(single, self._encode(single, each)) for single, each in pairs]
            for single, encoding in encoded:
                self._write(single, encoding, not allow_unconfirmed, no_cache)
            return
        if type(key) is not str or key not in self.cache.entries:
            if type(key) is not str and isinstance(key, Mapping):
                raise TypeError(HOW_TO_PUT + "; a mapping and a value were given")
            key = check_key(key, self.limits.key_size_max)
        self._write(key, self._encode(key, value), not allow_unconfirmed, no_cache)

    def update(
        self,
        key: str,
        fn: Callable[[Any], Any],
        default: Any,
        *,
        allow_unconfirmed: bool,
        no_cache: bool,
        check: Callable[[], None] | None = None,
    ) -> Any:
        """Store what *fn* makes of the value; returns that. *check* is called in between."""
        if not isinstance(key, str):
            raise TypeError(f"update() takes a key, a str, not {type(key).__name__}")
        if not callable(fn):
            raise TypeError(f"update() takes a function of the value, not {fn!r}")
        new = fn(self.now(self.find(key, default, no_cache=no_cache)))
        if inspect.isawaitable(new):
            if inspect.iscoroutine(new):
                new.close()
            raise TypeError(
                "update() takes a plain function; what it was given returned something to await. "
                "Await that first, or use transaction()"
            )
        if check is not None:
            check()
        self.put(key, new, allow_unconfirmed=allow_unconfirmed, no_cache=no_cache)
        return new

    def _encode(self, key: str, value: Any) -> bytes:
        encoded = self.encode(value)
        if len(encoded) > self.limits.value_size_max:
            raise ValueTooLarge(key, len(encoded), self.limits.value_size_max)
        return encoded

    def _write(self, key: str, value: Known, confirmed: bool, no_cache: bool) -> None:
        cache = self.cache
        if (
            value == cache.entries.get(key, UNKNOWN)
            and (cache.dirty is None or key not in cache.dirty)
            and not no_cache
        ):
            return  # it is what the disk has
        self.buffer.write(key, value, confirmed=confirmed, no_cache=no_cache)

    def delete(
        self, key: str | Iterable[str], *, allow_unconfirmed: bool, no_cache: bool
    ) -> int | Miss[int]:
        """Returns how many were there: a bool for a single key."""
        self.gate.check()
        if isinstance(key, str):
            single = self._delete(
                [check_key(key, self.limits.key_size_max)], not allow_unconfirmed, no_cache
            )
            if isinstance(single, Miss):
                take = single.take
                return Miss(single.read, lambda stored: take(stored) > 0)
            return single > 0
        return self._delete(self._check_keys(key, "delete()"), not allow_unconfirmed, no_cache)

    def _delete(self, keys: Iterable[str], confirmed: bool, no_cache: bool) -> int | Miss[int]:
        count = 0
        unknown: list[str] = []
        for key in keys:
            value = self.cache.lookup(key)
            if value is None:
                self.buffer.note_nothing_left(confirmed=confirmed)
                continue
            if value is UNKNOWN:
                unknown.append(key)
            else:
                count += 1
            self.buffer.write(key, None, confirmed=confirmed, no_cache=no_cache)
        if not unknown:
            return count
        keyspace = self._keyspace
        return Miss(
            lambda reader: reader.count_present(keyspace, unknown), lambda stored: count + stored
        )

    def delete_all(self, *, allow_unconfirmed: bool) -> None:
        self.gate.check()
        if self.buffer.savepoints:
            raise DurableError(CANNOT_DELETE_ALL)
        self.buffer.clear(confirmed=not allow_unconfirmed)

    # Answering

    def answer(self, found: T | Miss[T], *, holds: bool) -> Answer[T]:
        if not isinstance(found, Miss):
            return ReadyAnswer(found)
        if self.reads.inline:
            return ReadyAnswer(self.now(found))
        take = found.take
        wait: StorageWait[T] = StorageWait(self.gate, holds=holds)
        read = self.buffer.begin_read()

        def on_done(stored: Any) -> None:
            try:
                value = take(stored)
            except Exception as error:
                on_failed(error)
            else:
                self.buffer.end_read(read)
                wait.finish(value)

        def on_failed(error: Exception) -> None:
            self._read_failed(read, wait, error)

        self.reads.fetch(found.read, on_done, on_failed)
        return wait

    def answer_parts(self, found: T | Parts[T], *, holds: bool) -> Answer[T]:
        """Of a list or a count: one that takes a single part is read as everything else is."""
        if not isinstance(found, IN_PARTS):
            return ReadyAnswer(cast("T", found))
        parts = cast("Parts[T]", found)
        try:
            if self.reads.inline and parts.take(parts.read(self.reads)):
                return ReadyAnswer(parts.result)
        except StoreDamaged as error:
            raise self.damaged(error) from error
        wait: StorageWait[T] = StorageWait(self.gate, holds=holds)
        read = self.buffer.begin_read()

        def on_done(part: Any) -> None:
            try:
                is_done = parts.take(part)
                if not is_done:
                    self.gate.check()  # of an object that broke meanwhile nothing more is read
                    self.reads.fetch(parts.read, on_done, on_failed)
            except Exception as error:
                on_failed(error)
            else:
                if is_done:
                    self.buffer.end_read(read)
                    wait.finish(parts.result)

        def on_failed(error: Exception) -> None:
            self._read_failed(read, wait, error)

        self.reads.fetch(parts.read, on_done, on_failed)
        return wait

    def now(self, found: T | Miss[T]) -> T:
        if not isinstance(found, Miss):
            return found
        try:
            return cast("T", found.take(found.read(self.reads)))
        except StoreDamaged as error:
            raise self.damaged(error) from error

    def all_now(self, found: T | Parts[T]) -> T:
        """A list or a count, with all of its parts."""
        if not isinstance(found, IN_PARTS):
            return cast("T", found)
        parts = cast("Parts[T]", found)
        try:
            while not parts.take(parts.read(self.reads)):
                pass
        except StoreDamaged as error:
            raise self.damaged(error) from error
        return parts.result

    def _read_failed(self, read: int, wait: StorageWait[Any], error: Exception) -> None:
        """A read that was awaited: only one of a damaged value is more than an error of its own."""
        self.buffer.end_read(read)
        if isinstance(error, StoreDamaged):
            self.gate.owner.fail(error)
        wait.fail(error)

    def damaged(self, error: DurableError) -> BaseException:
        """What was asked for is damaged, or part of the turn was lost: the object is reset, so that
        nothing is built on what is left. Returns what to raise in its code."""
        self.gate.owner.fail(error)
        return self.gate.stopped()

    def _check_keys(self, keys: Iterable[str], call: str) -> Iterable[str]:
        return check_keys(keys, call, self.limits.key_size_max, self.limits.keys_per_call_max)

    @property
    def _keyspace(self) -> int:
        """The keyspace of the object's records; it has some, or had."""
        keyspace = self.buffer.handle.keyspace
        assert keyspace
        assert not self.cache.is_complete
        return keyspace
