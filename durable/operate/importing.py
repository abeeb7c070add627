"""Imports objects from a file that `export` wrote, into the same store, another, or another class:
one object is restored in this way, or copied under another name.

Rule: the whole file is read and checked before anything is written. Then each object is written in
one piece, so an interrupted import leaves complete objects and no halves.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from attrs import define, field

from durable._deploy.planning import check_usable
from durable._engine.batch import Batch, Callbacks, ObjectHandle
from durable._engine.catalog import Catalog, ClassRecord, Naming
from durable._engine.codec import Codec, MsgpackCodec
from durable._engine.engine import Engine
from durable._model.clock import Clock, SystemClock
from durable._model.errors import DurableError, UnknownClass
from durable._model.ids import BASE_SIZE, IdFactory, name_to_keep
from durable._runtime.engines import open_to_write

from .export_file import FileClass, FileObject, NotAnExport, read_objects
from .exporting import Carried
from .id_set import Ascending, NotAscending, Seen, on_disk

# Objects are written in transactions of about this many bytes, or of one object that is larger.
GROUP_SIZE_MAX = 16 << 20
GROUP_COUNT_MAX = 10_000


class Existing(StrEnum):
    """What to do with objects that exist already."""

    REFUSE = "refuse"
    SKIP = "skip"
    REPLACE = "replace"


class ObjectExists(DurableError):
    """An object of the file is in the store already."""


@define(eq=False)
class _Target:
    """The class that receives the objects of a class of the file."""

    record: ClassRecord
    is_new: bool
    ids: IdFactory = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ids = IdFactory(self.record.unique_key)

    def base(self, found: FileObject, name: str | None) -> bytes:
        if name is not None:
            return self.ids.from_name(name).raw[:BASE_SIZE]
        return found.id[:BASE_SIZE]


def import_file(
    store: str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    cls: str | None = None,
    name: str | None = None,
    existing: Existing | str = Existing.REFUSE,
    codec: Codec | None = None,
    on_total: Callable[[int], object] = lambda count: None,
    on_object: Callable[[int], object] = lambda count: None,
) -> Carried:
    """Put the objects of *file* into the store in a folder, which is made if it does not exist.

    *cls*: into this class (`NAME` or `SCRIPT:NAME`) instead of the one in the file; *name*: under
    this name, if the file has one object. Objects with a name get the id that it has in the class;
    others keep theirs, as far as that identifies the object in its class. *on_total* is called once
    with how many objects the file has, *on_object* with how many of them were read so far.

    Raises NotAnExport, ObjectExists, MigrationConflict, StoreInUse and what `durable.open` raises;
    then nothing was changed.
    """
    existing = Existing(existing)
    codec = codec or MsgpackCodec()
    with Path(file).open("rb") as lines:
        if not lines.seekable():
            why = "an import reads the whole file before it writes, so it cannot be a pipe"
            raise OSError(errno.ESPIPE, why, os.fspath(file))
        seen = _read_through(lines, codec, None if cls is None else _naming(cls))
        if name is not None and sum(seen.values()) != 1:
            raise NotAnExport(
                f"a name can be given to one object, and {os.fspath(file)!r} has "
                f"{sum(seen.values()):,}"
            )
        on_total(sum(seen.values()))
        engine = open_to_write(os.fspath(store), SystemClock())
        try:
            carrying = _Carrying(engine, codec, cls, name, existing)
            carrying.choose(seen)
            if existing is Existing.REFUSE and not carrying.has_only_new_classes:
                carrying.check_new(read_objects(lines, codec))
            return carrying.write(read_objects(lines, codec), on_object)
        finally:
            engine.close()


def _read_through(lines: BinaryIO, codec: Codec, into: Naming | None) -> dict[FileClass, int]:
    """How many objects of which classes; NotAnExport if anything in the file is invalid."""
    try:
        return _count(lines, codec, into, Ascending())
    except NotAscending:
        with on_disk() as seen:
            return _count(lines, codec, into, seen)


def _count(lines: BinaryIO, codec: Codec, into: Naming | None, seen: Seen) -> dict[FileClass, int]:
    def is_new(found: FileObject) -> bool:
        naming = found.cls.naming if into is None else into
        return seen.add(naming, found.cls.unique_key, found.id, found.name)

    counts: dict[FileClass, int] = {}
    for found in read_objects(lines, codec, is_new=is_new):
        counts[found.cls] = counts.get(found.cls, 0) + 1
    return counts


@define(eq=False)
class _Carrying:
    """One import under way."""

    engine: Engine
    codec: Codec
    cls: str | None
    name: str | None
    existing: Existing
    targets: dict[FileClass, _Target] = field(factory=dict, init=False)
    clock: Clock = field(factory=SystemClock)

    def choose(self, seen: Iterable[FileClass]) -> None:
        """Choose the classes of the objects. Raises MigrationConflict if one cannot be made."""
        catalog = self.engine.catalog()
        for file_class in seen:
            record = self._record(catalog, file_class)
            is_new = record not in self.engine.catalog().records
            if is_new:
                catalog = catalog.replacing(record)
            self.targets[file_class] = _Target(record, is_new)

    @property
    def has_only_new_classes(self) -> bool:
        """Whether all classes are new: then none of its objects can exist already."""
        return all(target.is_new for target in self.targets.values())

    def _record(self, catalog: Catalog, file_class: FileClass) -> ClassRecord:
        naming = file_class.naming if self.cls is None else _meant(catalog, self.cls)
        found = check_usable(catalog, naming)
        if found is not None:
            return found
        new = catalog.new_class(naming)
        keys = {record.unique_key for record in catalog.records}
        if self.cls is None and file_class.unique_key not in keys:
            # So that its objects keep their ids.
            return ClassRecord(new.number, file_class.unique_key, new.name, new.script)
        return new

    def check_new(self, objects: Iterable[FileObject]) -> None:
        """Raise ObjectExists if an object exists already."""
        for found in objects:
            target = self.targets[found.cls]
            name = self._name(found)
            if not target.is_new and self._is_there(target, target.base(found, name)):
                who = repr(name) if name is not None else found.id.hex()
                raise ObjectExists(
                    f"the object {who} of {target.record.label} is in the store already; give it "
                    f"another name, or say by `existing` (on the command line --existing) "
                    f"whether such objects are to be skipped or replaced"
                )

    def write(self, objects: Iterable[FileObject], on_object: Callable[[int], object]) -> Carried:
        self._register()
        group = _Group(self.engine)
        values = skipped = 0
        try:
            for found in objects:
                batch = self._batch(found)
                if batch is None:
                    skipped += 1
                    continue
                values += len(found.encoded)
                on_object(group.add(batch))
            group.commit()
        except BaseException as error:
            if group.written:
                error.add_note(
                    f"{group.written:,} objects of the file were stored before that, each whole; "
                    f"do it again with `existing` (on the command line --existing) set to skip"
                )
            raise
        while self.engine.has_garbage:
            self.engine.collect_garbage()
        return Carried(group.written, values, skipped)

    def _register(self) -> None:
        new = [target.record for target in self.targets.values() if target.is_new]
        if new:
            before = self.engine.catalog()
            self.engine.change_classes(before, before.replacing(*new))

    def _batch(self, found: FileObject) -> Batch | None:
        """The batch that writes an object; None if there is nothing to write."""
        target = self.targets[found.cls]
        name = self._name(found)
        base = target.base(found, name)
        is_there = self._is_there(target, base)
        if is_there and self.existing is Existing.SKIP:
            return None
        number = self.engine.next_keyspace()
        handle = ObjectHandle(target.record.number, base, number, name_to_keep(name), None, None)
        return Batch(
            handle=handle,
            clears=is_there,
            puts=dict(found.encoded),
            alarm=found.alarm,
            origin=Callbacks(_nothing, _nothing),
            size=found.size,
            created_us=found.created_us,
            sides=dict(found.sides) or None,
        )

    def _is_there(self, target: _Target, base: bytes) -> bool:
        return self.engine.find(target.record.number, base) is not None

    def _name(self, found: FileObject) -> str | None:
        return found.name if self.name is None else self.name


@define(eq=False)
class _Group:
    """The batches that go into the store in one transaction."""

    engine: Engine
    written: int = field(default=0, init=False)
    _batches: list[Batch] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)

    def add(self, batch: Batch) -> int:
        """Returns how many objects it has now."""
        self._batches.append(batch)
        self._size += batch.size
        count = self.written + len(self._batches)
        if self._size >= GROUP_SIZE_MAX or len(self._batches) >= GROUP_COUNT_MAX:
            self.commit()
        return count

    def commit(self) -> None:
        batches, self._batches, self._size = self._batches, [], 0
        if batches:
            self.engine.commit(batches)
            self.engine.refresh()
            self.written += len(batches)


def _naming(label: str) -> Naming:
    script, colon, name = label.rpartition(":")
    if not name.isidentifier():
        raise ValueError(f"{name!r} cannot be the name of a class")
    return (script if colon else None), name


def _meant(catalog: Catalog, label: str) -> Naming:
    """The class that is called *label* in the store; or a new one."""
    naming = _naming(label)
    records = [record for record in catalog.records if not record.is_deleted]
    named = [record.naming for record in records if record.name == label]
    if naming in named or not named:
        return naming
    if len(named) > 1:
        known = ", ".join(f"{script}:{name}" for script, name in named)
        raise UnknownClass(f"there are several classes {label!r} in the store; known are: {known}")
    return named[0]


def _nothing(*_: object) -> None:
    """The callback of a batch: the import waits for each commit, and needs no notice."""
