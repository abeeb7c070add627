"""Transactions: `txn`, what the closure of `ctx.storage.transaction()` is given.

Rule: a call on `txn` is the same call on `ctx.storage`, if the transaction still runs.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

from attrs import frozen

from durable._gates.futures import Answer
from durable._gates.refusing import refusing
from durable._model.clock import Clock
from durable._model.errors import DurableError
from durable._model.storage_errors import TransactionOver

from .operations import AlarmRules, Operations
from .records import Records
from .savepoint import Phase, Savepoint
from .sealed_batches import DONE
from .write_buffer import CANNOT_DELETE_ALL, WriteBuffer

T = TypeVar("T")
C = TypeVar("C", bound="Transaction")
F = TypeVar("F", bound=Callable[..., Any])


@frozen
class Scope:
    """A block that ends a savepoint, unless it is over by then: what was written since is kept if
    the block ends, and undone if it raises."""

    _buffer: WriteBuffer
    _savepoint: Savepoint

    def __enter__(self) -> Savepoint:
        return self._savepoint

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._savepoint.phase is Phase.OPEN:
            end = self._buffer.commit if kind is None else self._buffer.roll_back
            end(self._savepoint)


async def run_transaction(buffer: WriteBuffer, closure: Callable[[Savepoint], Awaitable[T]]) -> T:
    """Run *closure* with its writes behind a savepoint, kept if it returns."""
    with Scope(buffer, buffer.begin()) as savepoint:
        running = closure(savepoint)
        if not inspect.isawaitable(running):
            raise TypeError(
                f"transaction() takes an async function; what it was given returned "
                f"{type(running).__name__}, nothing to await"
            )
        return await running


def while_it_runs(call: F) -> F:
    """The same call, refused once the transaction is over."""

    @wraps(call)
    def checked(self: Transaction, *args: Any, **options: Any) -> Any:
        self._check(f"{call.__name__}()")
        return call(self, *args, **options)

    return refusing(cast("F", checked))


def checked_calls(*names: str) -> Callable[[type[C]], type[C]]:
    """A class decorator: the calls of the base class with these *names*, each `while_it_runs`.

    Their types are those of the base class; assignments in the body would hide them from some type
    checkers.
    """

    def decorate(cls: type[C]) -> type[C]:
        for name in names:
            setattr(cls, name, while_it_runs(getattr(cls, name)))
        return cls

    return decorate


@checked_calls(
    "get", "list", "count", "put", "update", "delete", "get_alarm", "set_alarm", "delete_alarm"
)  # fmt: skip
class Transaction(Operations):
    """A transaction that runs. Its calls are those of `ctx.storage`, with the same promises.

    After `rollback()`, and after the closure has ended, every call but another `rollback()` of what
    was rolled back raises TransactionOver.

        async def move(txn: durable.Transaction) -> None:
            txn.put("a", await txn.get("a") - 1)
            txn.put("b", await txn.get("b") + 1)

        await self.ctx.storage.transaction(move)
    """

    __slots__ = ("_savepoint",)

    def __init__(
        self,
        records: Records,
        clock: Clock,
        alarms: AlarmRules,
        savepoint: Savepoint,
    ) -> None:
        super().__init__(records, clock, alarms)
        self._savepoint = savepoint

    def delete_all(self) -> NoReturn:
        """Raises DurableError: a transaction cannot delete everything."""
        self._check("delete_all()")
        raise DurableError(CANNOT_DELETE_ALL)

    def rollback(self) -> Answer[None]:
        """Undo all that the transaction wrote, nested transactions included. It is over then.

        The closure goes on, and what it returns is still the transaction's answer; what it writes
        to `ctx.storage` from here on is not the transaction's. Raises TransactionOver after a
        commit, and while a nested transaction runs.
        """
        if self._savepoint.phase is not Phase.ROLLED_BACK:
            self._check("rollback()")
            buffer = self._buffer
            assert buffer.savepoints is not None
            if buffer.savepoints[-1] is not self._savepoint:
                raise TransactionOver(
                    "Cannot roll back an outer transaction while a nested transaction is still "
                    "running. Wait for the nested one, or roll that back"
                )
            buffer.roll_back(self._savepoint)
        return DONE

    def _check_update(self) -> None:
        self._check("update()")

    def _check(self, call: str) -> None:
        self._gate.check()
        phase = self._savepoint.phase
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
        return f"<Transaction {self._savepoint.phase.value}>"
