"""A process that is killed while it applies migrations, at each point where that can matter."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from durable._deploy.migrations import Migration
from durable._deploy.planning import Script, plan_migrations
from durable._engine.batch import Alarm, Batch, Callbacks, ObjectHandle
from durable._engine.catalog import Catalog, ClassRecord
from durable._lmdb.check import check
from durable._lmdb.environment import Environment
from durable._model.clock import SystemClock

OBJECTS = 20
STEP = 15
MIGRATIONS = (
    Migration(tag="v1", renamed_classes=[{"from": "Kept", "to": "Renamed"}]),
    Migration(tag="v2", deleted_classes=["Gone"], new_classes=["New"]),
)

# Applies the migrations to the store of argv[1], and kills itself when it comes by a point, which
# is before, within or after a write transaction, for the argv[2]th time.
CHILD = """
import os, signal, sys
from durable._lmdb.handle import Handle
from tests.crash.test_kill_migration import apply

left = int(sys.argv[2])

def point():
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)

write = Handle.write

def watched(self, change, *rest, **options):
    def inside(txn):
        result = change(txn)
        point()
        return result
    point()
    result = write(self, inside, *rest, **options)
    point()
    return result

Handle.write = watched
apply(sys.argv[1])
"""


def apply(path: str | Path) -> None:
    """What an open does with pending migrations, and the committer with what they deleted."""
    environment = Environment.open(path, clock=SystemClock())
    catalog = environment.catalog()
    done = plan_migrations(catalog, [Script(None, MIGRATIONS)])
    if not done.is_empty:
        environment.change_classes(catalog, done.after)
    while environment.has_garbage:
        environment.collect_garbage(STEP)
    environment.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two classes whose objects have a key and an alarm each."""
    path = tmp_path_factory.mktemp("migration") / "filled"
    environment = Environment.open(path, clock=SystemClock())
    catalog = Catalog().replacing(ClassRecord(1, "Gone", "Gone"), ClassRecord(2, "Kept", "Kept"))
    environment.change_classes(Catalog(), catalog)
    environment.commit(
        [
            batch_of(environment.next_keyspace(), class_number, index)
            for class_number in (1, 2)
            for index in range(OBJECTS)
        ]
    )
    environment.close()
    return path


def batch_of(number: int, class_number: int, index: int) -> Batch:
    return Batch(
        handle=ObjectHandle(class_number, index.to_bytes(16, "big"), number, None, None, None),
        clears=False,
        puts={"value": b"x", "k" * 1_000: b"long key"},
        alarm=Alarm(10**15, 10**15),
        origin=Callbacks(lambda: None, lambda error: None),
        size=10,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_migrations_are_applied_wholly_or_not_at_all_whenever_the_process_dies(
    filled: Path, tmp_path: Path
) -> None:
    """The classes are those of before or of after; what is left of a deletion is done by the next
    owner; whatever the point, all ends the same."""
    before = catalog_of(filled)
    after = plan_migrations(before, [Script(None, MIGRATIONS)]).after
    seen: list[Catalog] = []
    point = 0
    while True:
        path = tmp_path / str(point)
        shutil.copytree(filled, path)
        child = subprocess.run([sys.executable, "-c", CHILD, path, str(point)], check=False)

        assert check(path, values=False) == []
        seen.append(catalog_of(path))
        assert seen[-1] in (before, after)
        assert objects_of(path, 2) == OBJECTS
        apply(path)
        assert catalog_of(path) == after
        assert (objects_of(path, 1), objects_of(path, 2)) == (0, OBJECTS)
        assert check(path, values=False) == []
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        point += 1

    assert seen[0] == seen[1] == before  # killed before the transaction, and within it
    assert seen[2] == after
    assert point > 9  # the deletion took several steps


def catalog_of(path: Path) -> Catalog:
    environment = Environment.open(path, clock=SystemClock())
    try:
        return environment.catalog()
    finally:
        environment.close()


def objects_of(path: Path, class_number: int) -> int:
    environment = Environment.open(path, clock=SystemClock())
    try:
        alarms = sum(due.class_number == class_number for due in environment.alarms(count_max=999))
        objects = environment.objects(class_number, count_max=999)
        assert alarms == len(objects)
        return len(objects)
    finally:
        environment.close()
