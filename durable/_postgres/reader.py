"""A reader: reads records by statements of their own, each of which sees what is committed by then.

No transaction stays open between two reads: it would keep the server from clearing old rows away.
So a reader sees at least what was committed before it was released, and may see more.

Rule: an open range of keys is read by one statement, with a limit, in the order of the primary key.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any, Final, LiteralString
from zlib import crc32

from attrs import define

from durable._engine.checksums import OVERHEAD, WHOLE

from .connection import Connection
from .postgres_errors import damaged_key, damaged_side

_GET: Final = "select value from durable.records where keyspace = %s and key = %s"
_GET_SIDE: Final = "select value from durable.sides where keyspace = %s and key = %s"
_GET_SIDES: Final = "select key, value from durable.sides where keyspace = %s and key = any(%s)"
_GET_MANY: Final = "select key, value from durable.records where keyspace = %s and key = any(%s)"
_PRESENT: Final = "select key from durable.records where keyspace = %s and key = any(%s)"

# Above every key: no UTF-8 has such a byte.
_PAST: Final = b"\xff"


def key_bytes(keyspace: int, key: bytes) -> bytes:
    """What the checksum of a record covers, beside its value."""
    return keyspace.to_bytes(8, "big") + key


@define(eq=False, slots=True)
class PostgresReader:
    """An `OwnReader` of `_engine`."""

    _connection: Connection
    _is_own: bool = True

    def get(self, keyspace: int, key: str, /) -> bytes | None:
        encoded = key.encode()
        rows = self._connection.read(_GET, (keyspace, encoded))
        return self.value(keyspace, encoded, rows[0][0]) if rows else None

    def get_many(self, keyspace: int, keys: Iterable[str], /) -> dict[str, bytes]:
        wanted = list(keys)
        if not wanted:
            return {}
        rows = self._connection.read(_GET_MANY, (keyspace, [key.encode() for key in wanted]))
        found = {key: self.value(keyspace, key, record) for key, record in rows}
        # In the order in which they were asked for.
        return {key: value for key in wanted if (value := found.get(key.encode())) is not None}

    def count_present(self, keyspace: int, keys: Iterable[str], /) -> int:
        wanted = [key.encode() for key in keys]
        if not wanted:
            return 0
        rows = self._connection.read(_PRESENT, (keyspace, wanted))
        present = {key for (key,) in rows}
        # A key that is given twice counts twice, as in every engine.
        return sum([key in present for key in wanted])

    def scan_some(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        count_max: int | None,
        size_max: int | None = None,
    ) -> tuple[list[tuple[str, bytes]], bool]:
        if size_max is not None and size_max <= 0:
            size_max = 1
        params: list[Any] = [keyspace, *_bounds(lower, upper)]
        params.append(None if count_max is None else count_max + 1)
        if size_max is None:
            rows = self._connection.read(_SCAN[reverse], params)
            is_last = count_max is None or len(rows) <= count_max
        else:
            # The row with which the values take so much is the last one that is given.
            rows = self._connection.read(_SCAN_SIZED[reverse], [OVERHEAD, *params, size_max])
            is_last = not rows or rows[-1][2]
            rows = [(key, record) for key, record, _ in rows]
            if count_max is not None and len(rows) > count_max:
                is_last = False
        pairs = [
            (key.decode(), self.value(keyspace, key, record)) for key, record in rows[:count_max]
        ]
        return pairs, is_last

    def keys_some(
        self,
        keyspace: int,
        lower: str = "",
        upper: str | None = None,
        *,
        reverse: bool = False,
        count_max: int,
    ) -> tuple[list[str], bool]:
        params = [keyspace, *_bounds(lower, upper), count_max + 1]
        rows = self._connection.read(_KEYS[reverse], params)
        return [key.decode() for (key,) in rows[:count_max]], len(rows) <= count_max

    def count_some(
        self,
        keyspace: int,
        lower: str,
        upper: str | None,
        without: Container[bytes],
        count_max: int,
    ) -> tuple[int, str | None]:
        params = [keyspace, *_bounds(lower, upper), count_max]
        if without:
            keys = [key for (key,) in self._connection.read(_KEYS[False], params)]
            count = sum([key not in without for key in keys])
            return count, keys[-1].decode() + "\0" if len(keys) == count_max else None
        rows = self._connection.read(_COUNT, params)
        total, last = rows[0] if rows else (0, b"")
        return total, last.decode() + "\0" if total == count_max else None

    def get_side(self, keyspace: int, key: bytes, /) -> bytes | None:
        rows = self._connection.read(_GET_SIDE, (keyspace, key))
        return self.side(keyspace, key, rows[0][0]) if rows else None

    def get_sides(self, keyspace: int, keys: Sequence[bytes], /) -> list[bytes | None]:
        rows = self._connection.read(_GET_SIDES, (keyspace, list(keys)))
        found = {key: self.side(keyspace, key, record) for key, record in rows}
        return [found.get(key) for key in keys]

    def scan_sides(
        self,
        keyspace: int,
        lower: bytes,
        upper: bytes,
        *,
        reverse: bool = False,
        count_max: int,
    ) -> list[tuple[bytes, bytes]]:
        rows = self._connection.read(_SIDES[reverse], (keyspace, lower, upper, count_max))
        return [(key, self.side(keyspace, key, record)) for key, record in rows]

    def value(self, keyspace: int, key: bytes, record: bytes) -> bytes:
        """The value in *record*. Raises StoreDamaged."""
        if crc32(record, crc32(key_bytes(keyspace, key))) != WHOLE:
            raise damaged_key(self._connection.path, keyspace, key)
        return record[1:-4]

    def side(self, keyspace: int, key: bytes, record: bytes) -> bytes:
        """The same for a side record."""
        if crc32(record, crc32(key_bytes(keyspace, key))) != WHOLE:
            raise damaged_side(self._connection.path, keyspace, key)
        return record[1:-4]

    def release(self) -> None:
        """Nothing is held between two reads."""

    def close(self) -> None:
        if self._is_own:
            self._connection.close()


def _bounds(lower: str, upper: str | None) -> tuple[bytes, bytes]:
    return lower.encode(), _PAST if upper is None else upper.encode()


_WHERE: Final = " from durable.records where keyspace = %s and key >= %s and key < %s"


def _in_both_orders(
    before: LiteralString, after: LiteralString = ""
) -> tuple[LiteralString, LiteralString]:
    """The statement, and the one that reads backwards."""
    return (
        before + " order by key limit %s" + after,
        before + " order by key desc limit %s" + after,
    )


_SCAN: Final = _in_both_orders("select key, value" + _WHERE)
_KEYS: Final = _in_both_orders("select key" + _WHERE)
_COUNT: Final = (
    "select place, key from (select key, row_number() over (order by key) as place from ("
    "select key" + _WHERE + " order by key limit %s) as part) as numbered "
    "order by place desc limit 1"
)
_SIDES: Final = _in_both_orders(
    "select key, value from durable.sides where keyspace = %s and key >= %s and key < %s"
)
_SCAN_SIZED: Final = (
    "select key, value, is_last from (select key, value, "
    "coalesce(sum(octet_length(value) - %s) over before, 0) as size, "
    "row_number() over (order by key desc) = 1 as is_last from ("
    "select key, value" + _WHERE + " order by key limit %s"
    ") as part window before as (order by key rows between unbounded preceding and 1 preceding)"
    ") as sized where size < %s order by key",
    "select key, value, is_last from (select key, value, "
    "coalesce(sum(octet_length(value) - %s) over before, 0) as size, "
    "row_number() over (order by key) = 1 as is_last from ("
    "select key, value" + _WHERE + " order by key desc limit %s"
    ") as part window before as ("
    "order by key desc rows between unbounded preceding and 1 preceding)"
    ") as sized where size < %s order by key desc",
)
