"""Transactions: `txn`, what the closure of `ctx.storage.transaction()` is given.

Rule: a call on `txn` is the same call on `ctx.storage`, if the transaction still runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, overload

from durable._gates.answers import Answer
from durable._model.errors import DurableError, TransactionOver

from .arguments import UNSET
from .write_buffer import CANNOT_DELETE_ALL, DONE, Layer, Phase, WriteBuffer

if TYPE_CHECKING:
    from .storage import Storage

T = TypeVar("T")


async def run_transaction(storage: Storage, closure: Callable[[Transaction], Awaitable[T]]) -> T:
    """Run *closure* with its writes in a layer of their own, kept if it returns."""
    buffer = storage._buffer
    layer = buffer.push()
    try:
        running = closure(Transaction(storage, layer))
        if not inspect.isawaitable(running):
            raise TypeError(
                f"transaction() takes an async function; what it was given returned "
                f"{type(running).__name__}, nothing to await"
            )
        value = await running
    except BaseException:
        if layer.phase is Phase.OPEN:
            buffer.roll_back(layer)
        raise
    if layer.phase is Phase.OPEN:
        buffer.commit(layer)
    return value


class Transaction:
    """A transaction that runs. Its calls are those of `ctx.storage`, with the same promises.

    After `rollback()`, and after the closure has ended, every call but another `rollback()` of what
    was rolled back raises TransactionOver.

        async def move(txn: durable.Transaction) -> None:
            txn.put("a", await txn.get("a") - 1)
            txn.put("b", await txn.get("b") + 1)

        await self.ctx.storage.transaction(move)
    """

    __slots__ = ("_layer", "_storage")

    def __init__(self, storage: Storage, layer: Layer) -> None:
        self._storage = storage
        self._layer = layer

    @overload
    def get(
        self,
        key: str,
        default: Any = None,
        *,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[Any]: ...
    @overload
    def get(
        self, key: Iterable[str], *, allow_concurrency: bool = False, no_cache: bool = False
    ) -> Answer[dict[str, Any]]: ...
    def get(self, key: Any, default: Any = None, **options: bool) -> Answer[Any]:
        """See `Storage.get`."""
        self._check("get()")
        return self._storage.get(key, default, **options)

    def list(
        self,
        *,
        start: str | None = None,
        start_after: str | None = None,
        end: str | None = None,
        prefix: str | None = None,
        reverse: bool = False,
        limit: int | None = None,
        allow_concurrency: bool = False,
        no_cache: bool = False,
    ) -> Answer[dict[str, Any]]:
        """See `Storage.list`."""
        self._check("list()")
        return self._storage.list(
            start=start,
            start_after=start_after,
            end=end,
            prefix=prefix,
            reverse=reverse,
            limit=limit,
            allow_concurrency=allow_concurrency,
            no_cache=no_cache,
        )

    @overload
    def put(
        self,
        key: str,
        value: Any,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[None]: ...
    @overload
    def put(
        self,
        key: Mapping[str, Any],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[None]: ...
    def put(self, key: Any, value: Any = UNSET, **options: bool) -> Answer[None]:
        """See `Storage.put`."""
        self._check("put()")
        return self._storage.put(key, value, **options)

    @overload
    def delete(  # pyright: ignore[reportOverlappingOverload]
        self,
        key: str,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[bool]: ...
    @overload
    def delete(
        self,
        key: Iterable[str],
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
        no_cache: bool = False,
    ) -> Answer[int]: ...
    def delete(self, key: Any, **options: bool) -> Answer[Any]:
        """See `Storage.delete`."""
        self._check("delete()")
        return self._storage.delete(key, **options)

    def delete_all(self) -> NoReturn:
        """Raises DurableError: a transaction cannot delete everything."""
        self._check("delete_all()")
        raise DurableError(CANNOT_DELETE_ALL)

    def get_alarm(self, *, allow_concurrency: bool = False) -> Answer[datetime | None]:
        """See `Storage.get_alarm`."""
        self._check("get_alarm()")
        return self._storage.get_alarm(allow_concurrency=allow_concurrency)

    def set_alarm(
        self,
        time: datetime | timedelta | float,
        *,
        allow_concurrency: bool = False,
        allow_unconfirmed: bool = False,
    ) -> Answer[None]:
        """See `Storage.set_alarm`."""
        self._check("set_alarm()")
        return self._storage.set_alarm(
            time, allow_concurrency=allow_concurrency, allow_unconfirmed=allow_unconfirmed
        )

    def delete_alarm(
        self, *, allow_concurrency: bool = False, allow_unconfirmed: bool = False
    ) -> Answer[None]:
        """See `Storage.delete_alarm`."""
        self._check("delete_alarm()")
        return self._storage.delete_alarm(
            allow_concurrency=allow_concurrency, allow_unconfirmed=allow_unconfirmed
        )

    def rollback(self) -> Answer[None]:
        """Undo all that the transaction wrote, nested transactions included. It is over then.

        The closure goes on, and what it returns is still the transaction's answer; what it writes
        to `ctx.storage` from here on is not the transaction's. Raises TransactionOver after a
        commit, and while a nested transaction runs.
        """
        if self._layer.phase is not Phase.ROLLED_BACK:
            self._check("rollback()")
            buffer = self._buffer
            assert buffer.layers is not None
            if buffer.layers[-1] is not self._layer:
                raise TransactionOver(
                    "Cannot roll back an outer transaction while a nested transaction is still "
                    "running. Wait for the nested one, or roll that back"
                )
            buffer.roll_back(self._layer)
        return DONE

    @property
    def _buffer(self) -> WriteBuffer:
        return self._storage._buffer

    def _check(self, call: str) -> None:
        self._storage._gate.check()
        phase = self._layer.phase
        if phase is Phase.ROLLED_BACK:
            raise TransactionOver(
                f"Cannot {call} on rolled back transaction. Use ctx.storage, or start another one"
            )
        if phase is Phase.COMMITTED:
            raise TransactionOver(
                f"Cannot call {call} on transaction that has already committed: did you move "
                f"`txn` outside of the closure?"
            )

    def __repr__(self) -> str:
        return f"<Transaction {self._layer.phase.value}>"
