"""The check: is everything in the file as the layout says, and is it consistent?

Reads one snapshot, changes nothing and wakes no object. Returns all that it finds as problems; only
a file that cannot be read at all raises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any, TypeVar

from attrs import define, field

from durable._engine.batch import ObjectRecord
from durable._engine.catalog import ClassRecord
from durable._engine.codec import Codec, MsgpackCodec
from durable._engine.history_records import CLEARINGS, read_clearing
from durable._engine.problem import Problem
from durable._engine.view import Malformed
from durable._model.clock import SystemClock
from durable._model.ids import NAME_SIZE_MAX, IdFactory

from . import layout, long_keys
from .byte_flags import Marks
from .check_keyspace import Decode, KeyspaceCheck
from .environment import Environment
from .folder import DATA_FILE, Found, check_pages, inspect
from .layout import RecordKey
from .long_keys import Transaction
from .pages import unreadable_parts
from .reader import Interrupted
from .upgrading import protected_from
from .write_transaction import Databases

T = TypeVar("T")

RECORDS_PER_PAUSE = 1_000

# Kinds of numbers that may have records: of an object with an alarm or a history, of one without
# either and no records so far, of garbage, of a history, and of what a history keeps.
LASTING, SILENT, GARBAGE, HISTORIC, KEPT = 1, 2, 4, 8, 16


def check(
    store: str | os.PathLike[str] | Environment,
    *,
    values: bool = True,
    codec: Codec | None = None,
) -> list[Problem]:
    """Every problem of the store in a folder, or of an open one. *values*: decode them too, by
    *codec* or the library's; their checksums are compared in any case.

    The file is read first, by calls that can fail: a page that the disk cannot read would kill the
    process that touches it in LMDB's map. If there are any, only these are returned.

    Raises StoreDamaged, FormatTooNew or an OSError if it cannot be opened. An open store can be
    used meanwhile; when its map has to grow the check begins again.
    """
    decode = (codec or MsgpackCodec()).decode if values else None
    if isinstance(store, Environment):
        return _unreadable(store.path) or _check_open(store, decode)
    folder = os.fspath(store)
    if inspect(folder) is Found.STORE:
        if problems := _unreadable(folder):
            return problems
        check_pages(folder)  # since LMDB trusts them
    environment = Environment.open_to_read(store, clock=SystemClock())
    try:
        return _check_open(environment, decode)
    finally:
        environment.close()


def _unreadable(folder: str) -> list[Problem]:
    file = os.path.join(folder, DATA_FILE)
    return [
        Problem(
            file,
            f"the bytes from {first:,} to {last:,} cannot be read: {error}; copy what can be read "
            f"to another disk, and restore the rest from a backup",
        )
        for first, last, error in unreadable_parts(file)
    ]


def _check_open(environment: Environment, decode: Decode | None) -> list[Problem]:
    reader = environment.new_reader()

    def look(txn: Transaction, pause: Callable[[], None]) -> list[Problem]:
        return _Check(txn, environment.handle.databases, decode, pause).run()

    try:
        while True:
            with suppress(Interrupted):
                return reader.read_long(look)
    finally:
        reader.close()


@define(eq=False)
class _Check:
    txn: Transaction
    databases: Databases
    decode: Decode | None
    pause: Callable[[], None]
    protected_from: int | None = field(default=None, init=False)
    problems: list[Problem] = field(factory=list, init=False)
    classes: dict[int, ClassRecord] = field(factory=dict, init=False)
    factories: dict[int, IdFactory] = field(factory=dict, init=False)
    numbers: Marks = field(factory=Marks, init=False)  # those that may have records
    # Problems of the records under a number; the object of each is looked up at the end.
    hurt: dict[int, list[str]] = field(factory=dict, init=False)

    def run(self) -> list[Problem]:
        with suppress(Malformed):  # reported by _check_meta
            self.protected_from = protected_from(self.txn, self.databases)
        self._check_classes()
        self._check_garbage()
        self._check_objects()
        self._check_alarms()
        self._check_records()
        self._say_whose()
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
        for count, pair in enumerate(self.txn.cursor(database).iternext()):
            if count % RECORDS_PER_PAUSE == RECORDS_PER_PAUSE - 1:
                self.pause()
            yield pair

    def _label(self, class_number: int, base: bytes, name: str | None = None) -> str:
        """The name of an object in messages: its name or its id, and its class."""
        factory = self.factories.get(class_number)
        if factory is None:
            return f"the object {base.hex()} of class {class_number}"
        which = repr(name) if name is not None else str(factory.from_base(base, None))
        return f"the object {which} of {self.classes[class_number].label}"

    # One database after the other

    def _check_classes(self) -> None:
        keys: set[str] = set()
        for key, raw in self._pairs(self.databases.classes):
            record = self._read("classes", layout.read_class, key, raw)
            if record is None:
                continue
            self.classes[record.number] = record
            self.factories[record.number] = IdFactory(record.unique_key)
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
                if layout.is_garbage_history(key):
                    for kept in self._kept_in(number):
                        self.numbers.add(kept, GARBAGE)

    def _kept_in(self, history: int) -> list[int]:
        """The numbers that a history keeps; problems with it are reported with its records."""
        prefix = layout.side_key(history, CLEARINGS)
        pairs = long_keys.between(self.txn.cursor(), prefix, layout.past(prefix), False)
        kept: list[int] = []
        for key, value in pairs:
            with suppress(Malformed):
                clearing = read_clearing(key[layout.NUMBER_SIZE :], value[1:-4])
                if clearing.keyspace and not clearing.is_shared:
                    kept.append(clearing.keyspace)
        return kept

    def _check_objects(self) -> None:
        for key, raw in self._pairs(self.databases.objects):
            parts = self._read("objects", layout.read_object_key, key)
            if parts is None:
                continue
            where = self._label(*parts)
            record = self._read(where, layout.read_object, key, raw)
            if record is None:
                continue
            factory = self.factories.get(parts[0])
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
        has_more = record.alarm is not None or record.history != 0
        self._claim(where, "number", record.keyspace, LASTING if has_more else SILENT)
        if record.history:
            self._claim(where, "history", record.history, HISTORIC)
            for kept in self._kept_in(record.history):
                self._claim(where, "kept number", kept, KEPT)

    def _claim(self, where: str, what: str, number: int, mark: int) -> None:
        if number <= 0:
            self._say(where, f"{number} is not the number of an object")
        elif self.numbers.of(number) & GARBAGE:
            self._say(where, f"its {what} {number} is garbage")
        elif self.numbers.of(number):
            self._say(where, f"its {what} {number} is another object's too")
        self.numbers.add(number, mark)

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
            where = f"the alarm of {self._label(due.class_number, due.base)} at {due.due_us}"
            if raw:
                self._say(where, "it has a value, and none is expected")
            object_key = layout.object_key(due.class_number, due.base)
            found = self.txn.get(object_key, db=self.databases.objects)
            if found is None:
                self._say(where, "there is no such object")
                continue
            record = self._read(where, layout.read_object, object_key, found)
            if record is not None and (record.alarm is None or record.alarm.due_us != due.due_us):
                self._say(where, f"the object says {record.alarm}")

    def _check_records(self) -> None:
        tree: KeyspaceCheck | None = None
        for key, value in self._pairs(self.databases.records):
            record: RecordKey | None = None
            if not layout.is_side_key(key):
                record = self._read("records", layout.read_record_key, key)
                if record is None:
                    continue
            keyspace = int.from_bytes(key[: layout.NUMBER_SIZE], "big")
            if tree is None or tree.keyspace != keyspace:
                self._finish(tree)
                marks = self.numbers.of(keyspace)
                is_read = marks != 0 and not marks & GARBAGE
                tree = KeyspaceCheck(
                    keyspace,
                    is_read,
                    bool(marks & HISTORIC),
                    self.protected_from,
                    self.decode,
                    self.hurt,
                )
            if record is None:
                tree.add_side(key, value)
            else:
                tree.add(record, value)
        self._finish(tree)
        if next(self.numbers.having(SILENT), None) is not None:
            self._check_silent()

    def _check_silent(self) -> None:
        """Report the objects for which no records were found."""
        for key, raw in self._pairs(self.databases.objects):
            try:
                number = layout.read_object(key, raw).keyspace
                where = self._label(*layout.read_object_key(key))
            except Malformed:
                continue  # reported before
            if self.numbers.of(number) & SILENT:
                self._say(where, f"it has neither a key nor an alarm, under the number {number}")

    def _finish(self, tree: KeyspaceCheck | None) -> None:
        if tree is None:
            return
        marks = self.numbers.of(tree.keyspace)
        self.numbers.remove(tree.keyspace, SILENT)
        if not marks:
            tree.say("its records belong to no object, and are no garbage")
        # What garbage has lost already is not a problem.
        if not marks & GARBAGE:
            tree.finish()

    def _say_whose(self) -> None:
        """Report the problems of records, with their objects."""
        if not self.hurt:
            return
        for key, raw in self._pairs(self.databases.objects):
            try:
                record = layout.read_object(key, raw)
                where = self._label(*layout.read_object_key(key), record.name)
            except Malformed:
                continue  # reported before
            whose = [record.keyspace, record.history, *self._kept_in(record.history)]
            for number in whose if record.history else whose[:1]:
                for what in self.hurt.pop(number, ()):
                    self._say(where, what)
        for number, whats in self.hurt.items():
            for what in whats:
                self._say(f"the number {number}", what)

    def _check_meta(self) -> None:
        meta = self.databases.meta
        raw = self.txn.get(layout.META_FORMAT, db=meta)
        if raw is None:
            self._say("meta", "the format is missing")
        else:
            self._read("meta", layout.read_format, raw)
        used = max(
            chain([self._last_number()], self.numbers.having(LASTING | GARBAGE | HISTORIC | KEPT))
        )
        self._check_counter(layout.META_NEXT_KEYSPACE, layout.read_number, used)
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
