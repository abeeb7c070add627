"""Errors of the database as the library's own, with what to do about them."""

from __future__ import annotations

import errno
from typing import Final

import psycopg

from durable._model.cluster_errors import ObjectSuperseded, StoreUnavailable
from durable._model.errors import (
    CommitFailed,
    DurableError,
    StoreDamaged,
    StoreFull,
)

SUPERSEDED: Final = "DU001"
"""The code that the commit function raises if a shard has another owner or epoch."""

_NO_SCHEMA: Final = frozenset({"3F000", "42P01"})
_FULL: Final = frozenset({"53100"})
# Nothing was stored, and the same transaction may succeed: a deadlock, or a conflict of two.
RETRIED: Final = frozenset({"40001", "40P01"})


class Lost(StoreUnavailable):
    """The connection ended while a statement was under way: its outcome is unknown."""

    reset = True

    def __init__(self, path: str, cause: BaseException) -> None:
        super().__init__(
            f"the connection with the database {path!r} was lost in a transaction, and whether "
            f"that was committed is not known ({_text_of(cause)}); the object begins anew with "
            f"what the database has"
        )
        self.__cause__ = cause


class Conflict(CommitFailed):
    """The transaction gave way to another one; nothing of it is stored."""


class Taken(CommitFailed):
    """Another transaction has just made what this one was to make; nothing of it is stored."""


def unavailable(path: str, cause: BaseException | None) -> StoreUnavailable:
    why = "" if cause is None else f": {_text_of(cause)}"
    return StoreUnavailable(
        f"the database {path!r} does not answer{why}; see that it runs and can be reached from "
        f"here, then call again"
    )


def refusal(path: str, error: psycopg.Error, *, is_read: bool) -> Exception:
    """The error for what the server has refused; the connection can still be used."""
    state = error.sqlstate or ""
    if state == SUPERSEDED:
        return ObjectSuperseded(
            f"another process owns the shard by now, and nothing of the commit was stored: this "
            f"process did not renew its lease on {path!r} in time"
        )
    if state in _FULL:
        return StoreFull(
            f"the disk of the database {path!r} has no room, and nothing of the commit was stored: "
            f"{_text_of(error)}"
        )
    if state in RETRIED:
        return Conflict(f"the database {path!r} ended a transaction: {_text_of(error)}")
    if state == "23505":
        return Taken(f"the database {path!r} has that already: {_text_of(error)}")
    if state in _NO_SCHEMA:
        return no_schema(path)
    if state.startswith(("08", "53", "57")):
        return unavailable(path, error)
    if is_read:
        return DurableError(
            f"the store {path!r} cannot be read just now: {_text_of(error)}", retryable=True
        )
    return CommitFailed(
        f"the database {path!r} has refused a statement, and nothing of it was stored: "
        f"{_text_of(error)}"
    )


def no_schema(path: str) -> FileNotFoundError:
    return FileNotFoundError(
        errno.ENOENT,
        f"the database has no schema `durable` that this version knows; run `durable init {path}`",
        path,
    )


def damaged_key(path: str, keyspace: int, key: bytes) -> StoreDamaged:
    return _damaged(path, keyspace, f"the value of the key {key.decode(errors='replace')!r:.80}")


def damaged_side(path: str, keyspace: int, key: bytes) -> StoreDamaged:
    return _damaged(path, keyspace, f"the side record {key.hex()}")


def _damaged(path: str, keyspace: int, what: str) -> StoreDamaged:
    return StoreDamaged(
        f"{what} is damaged: its checksum does not match. It is in the keyspace {keyspace} of the "
        f"store {path!r}; run `durable check` on it, and take the object from a backup, or put or "
        f"delete the key"
    )


def _text_of(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
