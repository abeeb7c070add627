"""Opens damaged copies of a store, one after the other, and says what became of each.

A program of its own, since LMDB maps the file and trusts it: a wrong page can kill the process.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

from durable._engine.batch import UNCHANGED, Alarm, Batch, Callbacks, ObjectHandle
from durable._engine.codec import decode, encode
from durable._lmdb import check as checks
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock
from durable._model.errors import DurableError
from durable._model.ids import BASE_SIZE, IdFactory

OBJECTS = 12
KEYS = 40

Contents = dict[str, dict[str, Any]]


def make(folder: Path) -> Contents:
    """A store with a bit of everything: small and large values, long keys, alarms, garbage."""
    environment = Environment.open(folder, clock=SystemClock())
    catalog = environment.catalog()
    record = catalog.new_class((None, "Thing"))
    environment.change_classes(catalog, catalog.replacing(record))
    number = record.number
    contents: Contents = {}
    for each in range(OBJECTS):
        pairs: dict[str, Any] = {f"key {n}": [n, "x" * (each * 7)] for n in range(KEYS)}
        pairs["large"] = bytes(9_000)
        pairs["long " + "k" * 900] = {"deep": [each]}
        name = f"thing {each}"
        handle = ObjectHandle(number, _base(name), environment.next_keyspace(), name, None, None)
        alarm = Alarm(10**15, 10**15) if each % 3 == 0 else UNCHANGED
        environment.commit([_batch(handle, pairs, alarm)])
        contents[name] = pairs
    environment.close()
    return contents


def _batch(handle: ObjectHandle, pairs: dict[str, Any], alarm: Any = UNCHANGED) -> Batch:
    puts: dict[str, bytes | None] = {key: encode(value) for key, value in pairs.items()}
    return Batch(handle, False, puts, alarm, Callbacks(_nothing, _failed), 0)


def _base(name: str) -> bytes:
    return IdFactory("Thing").from_name(name).raw[:BASE_SIZE]


def _nothing() -> None:
    pass


def _failed(error: DurableError) -> None:
    raise error


def read_all(environment: Environment) -> Contents:
    """Everything that the store says it has, the ways that objects and tools ask."""
    contents: Contents = {}
    environment.alarms(count_max=1_000)
    for record in environment.classes():
        for _, thing in environment.objects(record.number, after=None, count_max=1_000):
            found = {
                key: decode(raw)
                for key, raw in environment.in_line.scan_some(thing.keyspace, count_max=None)[0]
            }
            environment.in_line.get(thing.keyspace, "key 3")
            environment.in_line.get_many(thing.keyspace, ["large", "long " + "k" * 900])
            contents[str(thing.name)] = found
    return contents


def use(folder: Path) -> Contents:
    """What an owner does with a store: read, write, read again."""
    environment = Environment.open(folder, clock=SystemClock())
    try:
        contents = read_all(environment)
        record = environment.catalog().find((None, "Thing"))
        assert record is not None
        number = record.number
        base = _base("new")
        found = environment.find(number, base)
        own = found.keyspace if found is not None else environment.next_keyspace()
        handle = ObjectHandle(number, base, own, "new", None, None)
        environment.commit([_batch(handle, {"key": "value"})])
        environment.refresh()
        read_all(environment)
        return contents
    finally:
        environment.close()


def damage(raw: bytes, seed: int) -> bytes:
    """The file with some of its bits turned over, or some of it overwritten or cut off."""
    chance = random.Random(seed)
    changed = bytearray(raw)
    kind = chance.choice(["bit", "bit", "byte", "bytes", "page", "cut", "meta"])
    if kind == "cut":
        del changed[chance.randrange(len(changed)) :]
    elif kind == "page":
        first, second = (chance.randrange(len(raw) // 4096) * 4096 for _ in range(2))
        changed[first : first + 4096] = raw[second : second + 4096]
    elif kind == "meta":
        changed[chance.randrange(200) + 4096 * chance.randrange(2)] = chance.randrange(256)
    else:
        for _ in range(8 if kind == "bytes" else 1):
            place = chance.randrange(len(changed))
            changed[place] = (
                chance.randrange(256)
                if kind == "byte"
                else changed[place] ^ 1 << chance.randrange(8)
            )
    return bytes(changed)


def main() -> None:
    """`damaged_store.py STORE SCRATCH FIRST LAST`: one line a seed, before and after."""
    store, scratch = Path(sys.argv[1]), Path(sys.argv[2])
    raw = (store / "data.mdb").read_bytes()
    for seed in range(int(sys.argv[3]), int(sys.argv[4]) + 1):
        print(seed, end=" ", flush=True)
        folder = scratch / str(seed)
        folder.mkdir()
        (folder / "data.mdb").write_bytes(damage(raw, seed))
        for name, look in (("check", checks.check), ("use", use)):
            try:
                look(folder)  # type: ignore[operator]
                print(f"{name}:ok", end=" ", flush=True)
            except (DurableError, OSError) as error:
                print(f"{name}:{type(error).__name__}", end=" ", flush=True)
        print("done", flush=True)


if __name__ == "__main__":
    main()
