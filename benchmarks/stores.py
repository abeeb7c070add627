"""Stores of many objects, to be opened by a benchmark: each with one key, and an alarm if wanted.

They are written through the disk's own floor, thousands of objects a commit, since a million calls
would take minutes. One that takes long is kept in the machine's temporary folder, under a name that
changes with the code of the disk.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path

import durable
import durable._lmdb
from durable._engine.batch import UNCHANGED, Alarm, Batch, Callbacks, ObjectHandle
from durable._engine.codec import MsgpackCodec
from durable._lmdb.environment import Environment
from durable._model.ids import BASE_SIZE, IdFactory

OBJECTS_PER_COMMIT = 10_000
KEPT_FROM = 50_000  # objects

VALUE = 12_345


def name_of(number: int) -> str:
    return f"object {number}"


def build(
    folder: Path, cls: type[durable.DurableObject], count: int, *, due_us: int | None = None
) -> Path:
    """A store in *folder* of *count* objects of *cls*, each with its alarm at *due_us* if that is
    given; answers the folder."""
    environment = Environment.open(folder, clock=durable.SystemClock())
    before = environment.catalog()
    record = before.new_class((None, cls.__name__))
    environment.change_classes(before, before.replacing(record))
    ids = IdFactory(record.unique_key)
    alarm = UNCHANGED if due_us is None else Alarm(due_us, due_us)
    value = MsgpackCodec().encode(VALUE)

    def batch(number: int) -> Batch:
        base = ids.from_name(name_of(number)).raw[:BASE_SIZE]
        return Batch(
            handle=ObjectHandle(
                record.number, base, environment.next_keyspace(), name_of(number), None, None
            ),
            clears=False,
            puts={"value": value},
            alarm=alarm,
            origin=Callbacks(lambda: None, lambda error: None),
            size=len(value) + 5,
        )

    for start in range(0, count, OBJECTS_PER_COMMIT):
        numbers = range(start, min(count, start + OBJECTS_PER_COMMIT))
        environment.commit([batch(number) for number in numbers])
    environment.close()
    return folder


def built(
    folder: Path, cls: type[durable.DurableObject], count: int, *, due_us: int | None = None
) -> Path:
    """The same, but a large one is looked for among those that were kept, and kept."""
    if count < KEPT_FROM:
        return build(folder, cls, count, due_us=due_us)
    alarms = "" if due_us is None else f"-alarms-{due_us}"
    kept = Path(tempfile.gettempdir(), "durable-bench-stores", _code())
    place = kept / f"{cls.__name__}-{count}{alarms}"
    if not place.exists():
        kept.mkdir(parents=True, exist_ok=True)
        # Under its name only when it is whole.
        shutil.move(build(folder, cls, count, due_us=due_us), place)
    return place


def _code() -> str:
    digest = hashlib.sha256()
    for file in sorted(Path(durable._lmdb.__path__[0]).glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
