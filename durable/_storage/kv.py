"""`ctx.storage.kv`: the same records without `await`.

Reads are made in-line even where `reads="thread"` sends those of `ctx.storage` to a thread: the
call blocks the event loop as long as the disk takes, a few microseconds for what is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, cast, overload

from durable._loop import here

from .arguments import UNSET
from .records import Keys, Nothing, Records

V = TypeVar("V")


class KeyValues:
    """What an object has stored, read and written at once.

    The same keys and values, the same forms, results, errors and promises as the calls of the same
    name on `ctx.storage`, whose writes and transactions these share. Cloudflare's `storage.kv`
    takes single keys only; here the forms with many are there too. The options are those of
    `ctx.storage`; `allow_concurrency` changes nothing, where nothing is waited for.
    """

    __slots__ = ("_records",)

    def __init__(self, records: Records) -> None:
        self._records = records

    @overload
    def get(
        self,
        key: str,
        default: Nothing = None,
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Any: ...
    @overload
    def get(
        self,
        key: str,
        default: V,
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> V: ...
    @overload
    def get(
        self, key: Iterable[str], *, allow_concurrency: bool = False, no_cache: bool = False
    ) -> dict[str, Any]: ...
    def get(
        self,
        key: str | Iterable[str],
        default: Any = None,
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Any:
        """The value of *key*, or *default*; of many keys a dict of those that are there.

        See `Storage.get`.
        """
        records = self._records
        try:
            encoded = records.cache.entries[key]  # type: ignore[index]
        except (KeyError, TypeError):
            return records.now(records.find(key, default, no_cache=no_cache))
        if here.thread() != records.gate.thread:
            records.gate.check()
        return default if encoded is None else records.decode(encoded)

    @overload
    def put(
        self,
        key: str,
        value: Any,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> None: ...
    @overload
    def put(
        self,
        key: Mapping[str, Any],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> None: ...
    def put(
        self,
        key: str | Mapping[str, Any],
        value: Any = UNSET,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> None:
        """Store *value* under *key*, or all pairs of a mapping. See `Storage.put`."""
        self._records.put(key, value, allow_unconfirmed=allow_unconfirmed, no_cache=no_cache)

    @overload
    def delete(
        self,
        key: str,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> bool: ...
    @overload
    def delete(
        self,
        key: Iterable[str],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> int: ...
    def delete(
        self,
        key: str | Iterable[str],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> int:
        """Delete *key*: whether it was there; of many keys how many were. See `Storage.delete`."""
        records = self._records
        return records.now(
            records.delete(key, allow_unconfirmed=allow_unconfirmed, no_cache=no_cache)
        )

    @overload
    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        keys_only: Literal[False] = False,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> dict[str, Any]: ...
    @overload
    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        keys_only: Literal[True],
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Keys: ...
    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        keys_only: bool = False,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> dict[str, Any] | Keys:
        """The pairs whose keys lie within the bounds, in key order; with *keys_only* a list of
        the keys. See `Storage.list`.

        All of it is read in-line, and nothing else runs meanwhile: of many keys take parts, with
        *limit* and *start_after*, or call `ctx.storage.list`.
        """
        records = self._records
        found: Any = records.all_now(
            records.find_list(
                start=start,
                start_after=start_after,
                end=end,
                prefix=prefix,
                reverse=reverse,
                limit=limit,
                keys_only=keys_only,
                no_cache=no_cache,
            )
        )
        return cast("dict[str, Any] | Keys", found)

    @overload
    def update(
        self,
        key: str,
        fn: Callable[[Any], V],
        default: Nothing = None,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> V: ...
    @overload
    def update(
        self,
        key: str,
        fn: Callable[[V], V],
        default: V,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> V: ...
    def update(
        self,
        key: str,
        fn: Callable[[Any], Any],
        default: Any = None,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Any:
        """Store what `fn(value)` returns under *key*, and return that. See `Storage.update`."""
        return self._records.update(
            key, fn, default, allow_unconfirmed=allow_unconfirmed, no_cache=no_cache
        )

    def count(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        allow_concurrency: bool = False,
    ) -> int:
        """How many keys lie within the bounds. See `Storage.count`."""
        records = self._records
        return records.all_now(
            records.count(start=start, start_after=start_after, end=end, prefix=prefix)
        )

    def __repr__(self) -> str:
        return f"<KeyValues {self._records.cache!r}>"
