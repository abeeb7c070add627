"""Copies the history of an object into another store, whose keyspaces are others."""

from __future__ import annotations

from attrs import evolve

from durable._engine.batch import Batch, ObjectRecord
from durable._engine.engine import Engine
from durable._engine.going_back import find_past, whole_of
from durable._engine.history_records import (
    CLEARINGS,
    Clearing,
    clearings_from,
    scan_all,
)
from durable._engine.side_records import HISTORY, end_of
from durable._engine.view import Malformed
from durable._engine.whole import WholeStore
from durable._model.errors import StoreDamaged


def records_of(store: Engine, history: int) -> dict[bytes, bytes | None]:
    """All records of a history except its clearings, which name keyspaces."""
    found = scan_all(store.in_line, history, HISTORY, end_of(HISTORY))
    return {key: value for key, value in found if not key.startswith(CLEARINGS)}


def with_history(store: Engine, target: Engine, found: ObjectRecord, batch: Batch) -> list[Batch]:
    """The batches that make, in order and in one transaction, the object of *batch* and its history
    in *target*. Raises StoreDamaged."""
    history = target.next_keyspace()
    batch.handle.history = history
    batch.history = records_of(store, found.history)
    batch.size += sum(len(key) + len(value or b"") for key, value in batch.history.items())
    batches: list[Batch] = []
    try:
        for clearing in clearings_from(store.in_line, found.history, 0):
            before = _kept(store, target, found, clearing, batch)
            _follows(before, batches)
            before.clearing, batch.clearing = batch.clearing, clearing.key
            batches.append(before)
    except Malformed as error:
        raise StoreDamaged(f"the history of an object is damaged: {error}") from error
    _follows(batch, batches)
    return [*batches, batch]


def _follows(batch: Batch, before: list[Batch]) -> None:
    batch.clears = bool(before)


def _kept(
    store: Engine, target: Engine, found: ObjectRecord, clearing: Clearing, batch: Batch
) -> Batch:
    """What a clearing keeps: the contents when it was made."""

    def resolve(keyspace: int) -> int:
        if isinstance(store, WholeStore):
            return store.kept_keyspace(found.history, keyspace)
        return keyspace

    past = find_past(store.in_line, found.history, found.keyspace, clearing.chapter_us, resolve)
    whole = whole_of(store.in_line, past, None)
    return evolve(
        batch,
        handle=evolve(batch.handle, keyspace=target.next_keyspace()),
        puts=whole.puts,
        sides=whole.sides or None,
        alarm=None,
        size=whole.size,
        created_us=clearing.created_us or found.created_us,
        history=None,
        clearing=None,
    )
