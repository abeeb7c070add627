"""The check: is everything in the file as the layout says, and does it fit together?

Reads one snapshot, changes nothing, wakes nobody. What is found is told as problems, all of them;
only a file that cannot be read at all raises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar

from attrs import define, field, frozen

from durable._engine.batch import ObjectRecord
from durable._engine.catalog import ClassRecord
from durable._engine.codec import FORMAT_MSGPACK
from durable._model.clock import SystemClock
from durable._model.ids import NAME_SIZE_MAX, IdFactory

from . import layout
from .byte_flags import Marks
from .environment import Environment
from .folder import Found, check_pages, inspect
from .layout import Malformed, RecordKey
from .long_keys import Transaction
from .write_transaction import Databases

T = TypeVar("T")

KEY_SIZE_MAX = 2_048

# What a number that may have records is one of: an object with an alarm, one without an alarm, of
# which no records were met so far, and what is to be freed.
ALARMED, SILENT, GARBAGE = 1, 2, 4


@frozen
class Problem:
    """Something that must not be."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def check(store: str | os.PathLike[str] | Environment, *, values: bool = True) -> list[Problem]:
    """Every problem of the store in a folder, or of an open one. *values*: look at their format
    bytes too, which a codec of the program's own need not write.

    Raises StoreDamaged, FormatTooNew or an OSError if it cannot be opened. While an open store of
    this process is checked its map cannot grow.
    """
    if isinstance(store, Environment):
        return store.read(lambda txn, databases: _Check(txn, databases, values).run())
    if inspect(os.fspath(store)) is Found.STORE:
        check_pages(os.fspath(store))  # LMDB would trust them
    environment = Environment.open_to_read(store, clock=SystemClock())
    try:
        return check(environment, values=values)
    finally:
        environment.close()


@define(eq=False)
class _Check:
    txn: Transaction
    databases: Databases
    values: bool
    problems: list[Problem] = field(factory=list, init=False)
    classes: dict[int, ClassRecord] = field(factory=dict, init=False)
    numbers: Marks = field(factory=Marks, init=False)  # those that may have records

    def run(self) -> list[Problem]:
        self._check_classes()
        self._check_garbage()
        self._check_objects()
        self._check_alarms()
        self._check_records()
        self._check_meta()
        return self.problems

    def _say(self, where: str, what: str) -> None:
        self.problems.append(Problem(where, what))

    def _read(self, where: str, read: Callable[..., T], *raw: bytes) -> T | None:
        try:
            return read(*raw)
        except Malformed as error:
            self._say(where, str(error))
            return None

    def _pairs(self, database: Any) -> Iterator[tuple[bytes, bytes]]:
        return self.txn.cursor(database).iternext()

    # One database after the other

    def _check_classes(self) -> None:
        keys: set[str] = set()
        for key, raw in self._pairs(self.databases.classes):
            record = self._read("classes", layout.read_class, key, raw)
            if record is None:
                continue
            self.classes[record.number] = record
            if record.unique_key in keys:
                self._say(f"class {record.number}", f"its key {record.unique_key!r} is used twice")
            keys.add(record.unique_key)

    def _check_garbage(self) -> None:
        for key, raw in self._pairs(self.databases.garbage):
            if raw:
                self._say("garbage", f"{key.hex()} has a value, and none is expected")
            if layout.is_garbage_class(key):
                number = self._read("garbage", layout.read_garbage_class_key, key)
                if number is not None and number not in self.classes:
                    self._say("garbage", f"there is no class {number}")
            elif (number := self._read("garbage", layout.read_garbage_key, key)) is not None:
                self.numbers.add(number, GARBAGE)

    def _check_objects(self) -> None:
        factories = {n: IdFactory(record.unique_key) for n, record in self.classes.items()}
        for key, raw in self._pairs(self.databases.objects):
            parts = self._read("objects", layout.read_object_key, key)
            if parts is None:
                continue
            where = _label(*parts)
            record = self._read(where, layout.read_object, raw)
            if record is None:
                continue
            factory = factories.get(parts[0])
            if factory is None:
                self._say(where, "there is no such class")
            elif record.name is not None:
                self._check_name(where, factory, record.name, parts[1])
            self._check_number(where, record)
            self._check_alarm_of(where, *parts, record)

    def _check_name(self, where: str, factory: IdFactory, name: str, base: bytes) -> None:
        if len(name.encode()) > NAME_SIZE_MAX:
            self._say(where, f"its name takes more than {NAME_SIZE_MAX:,} bytes")
        if factory.from_name(name).raw[: layout.BASE_SIZE] != base:
            self._say(where, f"it is called {name!r}, which is the name of another object")

    def _check_number(self, where: str, record: ObjectRecord) -> None:
        number = record.number
        if number <= 0:
            self._say(where, f"{number} is no number of an object")
        elif self.numbers.of(number) & GARBAGE:
            self._say(where, f"its number {number} is garbage")
        elif self.numbers.of(number):
            self._say(where, f"its number {number} is another object's too")
        self.numbers.add(number, ALARMED if record.alarm is not None else SILENT)

    def _check_alarm_of(
        self, where: str, class_number: int, base: bytes, record: ObjectRecord
    ) -> None:
        if record.alarm is None:
            return
        key = layout.alarm_key(record.alarm.due_us, class_number, base)
        if self.txn.get(key, db=self.databases.alarms) is None:
            self._say(where, f"its alarm at {record.alarm.due_us} is not in the index")

    def _check_alarms(self) -> None:
        for key, raw in self._pairs(self.databases.alarms):
            due = self._read("alarms", layout.read_alarm_key, key)
            if due is None:
                continue
            where = f"the alarm of {_label(due.class_number, due.base)} at {due.due_us}"
            if raw:
                self._say(where, "it has a value, and none is expected")
            object_key = layout.object_key(due.class_number, due.base)
            found = self.txn.get(object_key, db=self.databases.objects)
            if found is None:
                self._say(where, "there is no such object")
                continue
            record = self._read(where, layout.read_object, found)
            if record is not None and (record.alarm is None or record.alarm.due_us != due.due_us):
                self._say(where, f"the object says {record.alarm}")

    def _check_records(self) -> None:
        tree: _Tree | None = None
        for key, value in self._pairs(self.databases.records):
            record = self._read("records", layout.read_record_key, key)
            if record is None:
                continue
            if tree is None or tree.number != record.number:
                self._finish(tree)
                tree = _Tree(self, record.number)
            tree.add(record, value)
        self._finish(tree)
        if next(self.numbers.having(SILENT), None) is not None:
            self._check_silent()

    def _check_silent(self) -> None:
        """Say which objects no records were found of."""
        for key, raw in self._pairs(self.databases.objects):
            try:
                number = layout.read_object(raw).number
                where = _label(*layout.read_object_key(key))
            except Malformed:
                continue  # was said before
            if self.numbers.of(number) & SILENT:
                self._say(where, f"it has neither a key nor an alarm, under the number {number}")

    def _finish(self, tree: _Tree | None) -> None:
        if tree is None:
            return
        marks = self.numbers.of(tree.number)
        self.numbers.remove(tree.number, SILENT)
        if not marks:
            self._say(tree.where, "its records belong to no object, and are no garbage")
        # What garbage has lost already is no problem.
        if not marks & GARBAGE:
            tree.finish()

    def _check_meta(self) -> None:
        meta = self.databases.meta
        raw = self.txn.get(layout.META_FORMAT, db=meta)
        if raw is None:
            self._say("meta", "the format is missing")
        else:
            self._read("meta", layout.read_format, raw)
        used = max(chain([self._last_number()], self.numbers.having(ALARMED | GARBAGE)))
        self._check_counter(layout.META_NEXT_NUMBER, layout.read_number, used)
        last_class = max(self.classes, default=0)
        self._check_counter(layout.META_NEXT_CLASS, layout.read_class_number, last_class)

    def _check_counter(self, key: bytes, read: Callable[[bytes], int], used: int) -> None:
        raw = self.txn.get(key, db=self.databases.meta)
        counter = 1 if raw is None else self._read("meta", read, raw)
        if counter is not None and counter <= used:
            self._say("meta", f"the {key.decode()} is {counter}, but {used} is in use")

    def _last_number(self) -> int:
        cursor = self.txn.cursor(self.databases.records)
        return int.from_bytes(cursor.key()[: layout.NUMBER_SIZE], "big") if cursor.last() else 0


@define(eq=False)
class _Tree:
    """The records under one number, as they pass by."""

    check: _Check
    number: int
    # What the key of a record on a node continues, by node; the nodes that have records.
    before: dict[int, tuple[int | None, bytes]] = field(factory=dict, init=False)
    nodes: dict[int, list[bytes]] = field(factory=dict, init=False)

    @property
    def where(self) -> str:
        return f"the number {self.number}"

    def add(self, key: RecordKey, value: bytes) -> None:
        if key.node is not None:
            self.nodes.setdefault(key.node, [])
        if key.is_pointer:
            node = self.check._read(self.where, layout.read_number, value)
            if node is None:
                return
            if node in self.before:
                self.check._say(self.where, f"two pointers lead to the node {node}")
            self.before[node] = (key.node, key.rest)
            return
        if key.node is None:
            self._check_key(key.rest)
        else:
            self.nodes[key.node].append(key.rest)
        if self.check.values and value[:1] != bytes([FORMAT_MSGPACK]):
            self.check._say(self.where, f"the value of {_short(key.rest)} has no known format")

    def finish(self) -> None:
        for node, rests in self.nodes.items():
            start = self._start_of(node)
            if start is None:
                self.check._say(self.where, f"no pointer leads to the node {node}")
                continue
            for rest in rests:
                self._check_key(start + rest)
        for node in self.before.keys() - self.nodes.keys():
            self.check._say(self.where, f"a pointer leads to the node {node}, which is empty")

    def _start_of(self, node: int) -> bytes | None:
        """What all keys on *node* begin with; None if it cannot be reached."""
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
            self.check._say(self.where, f"the key {_short(key)} takes {len(key):,} bytes")
        try:
            key.decode()
        except UnicodeDecodeError as error:
            self.check._say(self.where, f"the key {_short(key)} is no UTF-8: {error}")


def _label(class_number: int, base: bytes) -> str:
    return f"the object {base.hex()} of class {class_number}"


def _short(key: bytes) -> str:
    return repr(key if len(key) <= 40 else key[:40] + b"...")
