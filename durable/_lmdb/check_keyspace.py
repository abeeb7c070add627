"""The check of one keyspace: the values of an object, its long keys and its side records."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from attrs import define, field

from durable._engine.checksums import is_complete
from durable._engine.history_records import check_record
from durable._engine.page_packing import pages_of, unpack
from durable._engine.side_records import HISTORY, PAGES
from durable._engine.stored_timer import TIMERS, read_timer
from durable._engine.view import Malformed
from durable._model.errors import StoreDamaged

from . import layout
from .layout import RecordKey

Decode: TypeAlias = Callable[[bytes], Any]

KEY_SIZE_MAX = 2_048


@define(eq=False)
class KeyspaceCheck:
    """The records of one keyspace, one after the other."""

    keyspace: int
    is_read: bool  # it is an object's, and not garbage
    is_history: bool
    # The first keyspace whose values all have checksums, if any has.
    protected_from: int | None
    decode: Decode | None
    # The problems, by keyspace.
    hurt: dict[int, list[str]]
    # By node: the parent and the beginning of its keys; only nodes that have records.
    before: dict[int, tuple[int | None, bytes]] = field(factory=dict, init=False)
    nodes: dict[int, list[bytes]] = field(factory=dict, init=False)
    # Values whose keys are not known before the end; those written by this version are at once.
    late: list[tuple[int, bytes, bytes]] = field(factory=list, init=False)
    pages: int = field(default=0, init=False)  # of its database, as the first one says

    def say(self, what: str) -> None:
        self.hurt.setdefault(self.keyspace, []).append(what)

    def add(self, key: RecordKey, value: bytes) -> None:
        if self.is_history:
            self.say("there is a key among the records of its history")
            return
        if key.node is not None:
            self.nodes.setdefault(key.node, [])
        if key.is_pointer:
            self._add_pointer(key, value)
        elif key.node is None:
            self._check_key(key.rest)
            self._check_value(key.rest, value)
        else:
            self.nodes[key.node].append(key.rest)
            start = self._start_of(key.node)
            if start is None:
                self.late.append((key.node, key.rest, value))
            else:
                self._check_value(start + key.rest, value)

    def add_side(self, key: bytes, record: bytes) -> None:
        if not self.is_read:
            return
        side = key[layout.NUMBER_SIZE :]
        if not is_complete(key, record):
            self.say(f"the side record {side.hex()} is damaged: its checksum does not match")
        elif side.startswith(HISTORY) != self.is_history:
            self.say(f"the side record {side.hex()} is not where such a record stands")
        elif self.is_history:
            self._check_history(side, record[1:-4])
        elif side.startswith(PAGES):
            self._check_page(int.from_bytes(side[len(PAGES) :], "big"), record[1:-4])
        elif side.startswith(TIMERS):
            self._check_timer(side, record[1:-4])

    def _check_history(self, side: bytes, stored: bytes) -> None:
        try:
            check_record(side, stored)
        except Malformed as error:
            self.say(str(error))

    def _check_timer(self, side: bytes, stored: bytes) -> None:
        try:
            read_timer(side, stored)
        except Malformed as error:
            self.say(str(error))

    def _check_page(self, number: int, stored: bytes) -> None:
        try:
            page = unpack(number, stored)
        except Malformed as error:
            self.say(f"page {number} of its database: {error}")
            return
        if number == 1:
            self.pages = pages_of(page)
        if number > self.pages:
            self.say(f"page {number} lies behind the end of its database of {self.pages} pages")

    def _add_pointer(self, key: RecordKey, value: bytes) -> None:
        try:
            node = layout.read_number(value)
        except Malformed as error:
            self.say(str(error))
            return
        if node in self.before:
            self.say(f"two pointers lead to the node {node}")
        self.before[node] = (key.node, key.rest)

    def _check_value(self, key: bytes, record: bytes) -> None:
        if not self.is_read:
            return
        value = record
        if is_complete(layout.identity(self.keyspace, key), record):
            value = record[1:-4]
        elif self.protected_from is not None and self.keyspace >= self.protected_from:
            self.say(f"the value of the key {_short(key)} is damaged: its checksum does not match")
            return
        if self.decode is not None:
            try:
                self.decode(value)
            except StoreDamaged as error:
                self.say(f"the value of the key {_short(key)}: {error}")

    def finish(self) -> None:
        for node, rests in self.nodes.items():
            start = self._start_of(node)
            if start is None:
                self.say(f"no pointer leads to the node {node}")
                continue
            for rest in rests:
                self._check_key(start + rest)
        for node in self.before.keys() - self.nodes.keys():
            self.say(f"a pointer leads to the node {node}, which is empty")
        for node, rest, value in self.late:
            if (start := self._start_of(node)) is not None:
                self._check_value(start + rest, value)

    def _start_of(self, node: int) -> bytes | None:
        """The common beginning of all keys on *node*; None if it cannot be reached."""
        pieces: list[bytes] = []
        parent: int | None = node
        while parent is not None:
            if parent not in self.before or len(pieces) > KEY_SIZE_MAX // layout.PIECE:
                return None
            parent, piece = self.before[parent]
            pieces.append(piece)
        return b"".join(reversed(pieces))

    def _check_key(self, key: bytes) -> None:
        if len(key) > KEY_SIZE_MAX:
            self.say(f"the key {_short(key)} takes {len(key):,} bytes")
        try:
            key.decode()
        except UnicodeDecodeError as error:
            self.say(f"the key {_short(key)} is not valid UTF-8: {error}")


def _short(key: bytes) -> str:
    text = key.decode(errors="backslashreplace")
    return repr(text if len(text) <= 80 else text[:80] + "…")
