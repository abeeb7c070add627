"""The records of an object in its levels: find, put, remove and scan, within one transaction.

Rule: a node exists if and only if something stands on its level; the pointer to it comes and goes
with the first and the last of that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol, overload

from attrs import define

from durable._engine.view import Malformed

from .layout import (
    NUMBER_SIZE,
    PAST_POINTER,
    PIECE,
    POINTER_END,
    POINTER_REST_SIZE,
    node_level,
    nodes_of,
    past,
    read_number,
    top_level,
    write_number,
)


class Cursor(Protocol):
    """The part of an LMDB cursor that is used here."""

    def first(self) -> bool: ...
    def last(self) -> bool: ...
    def next(self) -> bool: ...
    def prev(self) -> bool: ...
    def set_range(self, key: bytes, /) -> bool: ...
    def key(self) -> bytes: ...
    def value(self) -> bytes: ...
    def delete(self) -> bool: ...
    def putmulti(self, items: Sequence[tuple[bytes, bytes]], /) -> tuple[int, int]: ...
    @overload
    def iternext(self) -> Iterator[tuple[bytes, bytes]]: ...
    @overload
    def iternext(self, *, values: Literal[False]) -> Iterator[bytes]: ...
    @overload
    def iterprev(self) -> Iterator[tuple[bytes, bytes]]: ...
    @overload
    def iterprev(self, *, values: Literal[False]) -> Iterator[bytes]: ...


class Transaction(Protocol):
    """The part of an LMDB transaction that is used here. Without a `db` it is about the records."""

    def get(self, key: bytes, default: None = None, db: Any = ...) -> bytes | None: ...
    def put(
        self, key: bytes, value: bytes, dupdata: bool = ..., overwrite: bool = ...,
        append: bool = ..., db: Any = ...,
    ) -> bool: ...  # fmt: skip
    def delete(self, key: bytes, value: bytes = ..., db: Any = ...) -> bool: ...
    def cursor(self, db: Any = ...) -> Cursor: ...
    def abort(self) -> None: ...


def find(txn: Transaction, keyspace: int, key: bytes) -> bytes | None:
    """The value of *key*, of any length."""
    level = top_level(keyspace)
    while len(key) > PIECE:
        node = txn.get(level + key[:PIECE] + POINTER_END)
        if node is None:
            return None
        level = node_level(keyspace, read_number(node))
        key = key[PIECE:]
    return txn.get(level + key)


def put(txn: Transaction, keyspace: int, key: bytes, value: bytes) -> None:
    level = top_level(keyspace)
    new_node = 0
    while len(key) > PIECE:
        pointer = level + key[:PIECE] + POINTER_END
        found = txn.get(pointer)
        if found is not None:
            node = read_number(found)
        else:
            # A node that was just made is the last one, though nothing stands on it yet.
            node = new_node = new_node + 1 if new_node else _last_node(txn, keyspace) + 1
            txn.put(pointer, write_number(node))
        level = node_level(keyspace, node)
        key = key[PIECE:]
    txn.put(level + key, value)


def remove(txn: Transaction, keyspace: int, key: bytes) -> None:
    """Remove *key*, if it exists."""
    level = top_level(keyspace)
    way: list[tuple[bytes, bytes]] = []
    while len(key) > PIECE:
        pointer = level + key[:PIECE] + POINTER_END
        node = txn.get(pointer)
        if node is None:
            return
        level = node_level(keyspace, read_number(node))
        way.append((pointer, level))
        key = key[PIECE:]
    if txn.delete(level + key):
        while way:
            pointer, level = way.pop()
            if has_any(txn, level):
                return
            txn.delete(pointer)


def has_any(txn: Transaction, prefix: bytes) -> bool:
    """Whether any key of the records begins with *prefix*."""
    cursor = txn.cursor()
    return cursor.set_range(prefix) and cursor.key().startswith(prefix)


def remove_some(txn: Transaction, prefix: bytes, count_max: int) -> int:
    """Delete up to *count_max* keys that begin with *prefix*; fewer only if no more are left."""
    cursor = txn.cursor()
    count = 0
    is_there = cursor.set_range(prefix)
    while is_there and count < count_max and cursor.key().startswith(prefix):
        cursor.delete()
        count += 1
        is_there = bool(cursor.key())  # a delete goes on to the next one
    return count


def scan(
    txn: Transaction, keyspace: int, lower: bytes, upper: bytes | None, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """The keys from *lower*, *upper* excluded, and their values, in order."""
    yield from _Scan(txn, keyspace, reverse).level(top_level(keyspace), b"", lower, upper)


def keys(
    txn: Transaction, keyspace: int, lower: bytes, upper: bytes | None, reverse: bool = False
) -> Iterator[bytes]:
    """The same keys, without reading their values."""
    scan = _Scan(txn, keyspace, reverse, values=False)
    for key, _ in scan.level(top_level(keyspace), b"", lower, upper):
        yield key


@define(eq=False)
class _Scan:
    txn: Transaction
    keyspace: int
    reverse: bool
    values: bool = True

    def level(
        self,
        level: bytes,
        before: bytes,
        lower: bytes,
        upper: bytes | None,
        way: tuple[int, ...] = (),
    ) -> Iterator[tuple[bytes, bytes]]:
        """The records on *level* between the bounds; *before* is what its keys continue, and *way*
        the nodes that led there."""
        start = level + (lower if len(lower) <= PIECE else lower[:PIECE] + POINTER_END)
        stop = _stop(level, upper)
        size, pointer_size = len(level), len(level) + POINTER_REST_SIZE
        cursor = self.txn.cursor()
        if self.values:
            pairs = between(cursor, start, stop, self.reverse)
        else:
            pairs = _keys_between(cursor, start, stop, self.reverse)
        for key, value in pairs:
            if len(key) < pointer_size:
                yield before + key[size:], value
                continue
            piece, node = key[size:-1], read_number(value if self.values else cursor.value())
            if node in way:
                raise Malformed(f"node {node} of keyspace {self.keyspace} is inside of itself")
            yield from self.level(
                node_level(self.keyspace, node),
                before + piece,
                lower[PIECE:] if lower.startswith(piece) else b"",
                upper[PIECE:] if upper is not None and upper.startswith(piece) else None,
                (*way, node),
            )


def _stop(level: bytes, upper: bytes | None) -> bytes:
    if upper is None:
        return past(level)
    if len(upper) <= PIECE:
        return level + upper
    return level + upper[:PIECE] + PAST_POINTER


def between(
    cursor: Cursor, start: bytes, stop: bytes, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    if not reverse:
        if cursor.set_range(start):
            for pair in cursor.iternext():
                if pair[0] >= stop:
                    return
                yield pair
        return
    if cursor.prev() if cursor.set_range(stop) else cursor.last():
        for pair in cursor.iterprev():
            if pair[0] < start:
                return
            yield pair


def _keys_between(
    cursor: Cursor, start: bytes, stop: bytes, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """The keys alone: to make a value of each would take longer than all else."""
    if not reverse:
        if cursor.set_range(start):
            for key in cursor.iternext(values=False):
                if key >= stop:
                    return
                yield key, b""
        return
    if cursor.prev() if cursor.set_range(stop) else cursor.last():
        for key in cursor.iterprev(values=False):
            if key < start:
                return
            yield key, b""


def _last_node(txn: Transaction, keyspace: int) -> int:
    """The highest number of a node of the object; 0 if it has none."""
    prefix = nodes_of(keyspace)
    cursor = txn.cursor()
    there = cursor.prev() if cursor.set_range(past(prefix)) else cursor.last()
    if not there or not cursor.key().startswith(prefix):
        return 0
    raw = cursor.key()[len(prefix) : len(prefix) + NUMBER_SIZE]
    if len(raw) != NUMBER_SIZE:
        raise Malformed(f"{cursor.key().hex()} is not the key of a record")
    return read_number(raw)
