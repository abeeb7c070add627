"""Where an object is kept: the engine of its part of the store, and the ways to read and to write.

A store has one of these, or one for each shard that this process owns; an activation knows its own.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from durable._engine.batch import Batch, Woken
from durable._engine.engine import Engine
from durable._engine.read_thread import Reads


@frozen(eq=False)
class Disk:
    """What the objects of one shard read and write by."""

    engine: Engine
    reads: Reads
    submit: Callable[[Batch], None]
    # A task, a caller that is no object's code, is about to wait, for what was submitted perhaps.
    begin_to_wait: Callable[[object], None]
    next_keyspace: Callable[[], int]
    # Calls back when all batches submitted so far are on disk or have failed.
    when_answered: Callable[[Callable[[], None]], None]
    # Finds an object with what it has stored, where the engine is far away.
    wake: Callable[[int, bytes], Woken | None] | None = None
