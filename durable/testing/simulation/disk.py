"""The disk of a simulation: real files, with the threads' work done in the loop, step by step.

Each step (take a group and commit it; report it; read; report what was read) is made when the
simulation says so. What a power failure leaves behind is in `power`.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import Empty
from random import Random
from typing import Any, ClassVar

from attrs import define, field

from durable._engine.batch import Batch, ObjectRecord
from durable._engine.codec import MsgpackCodec
from durable._engine.committer import Committer
from durable._engine.engine import Engine
from durable._engine.read_thread import Reads
from durable._lmdb import long_keys, object_index
from durable._lmdb.environment import Environment
from durable._lmdb.journal.questions import find_by
from durable._model.clock import Clock
from durable._model.errors import DurableError
from durable._runtime import engines
from durable._runtime.disks import OpenDisk
from durable._runtime.open_store import OpenStore
from durable.testing.faults import Faults
from durable.testing.opening import open as open_for_test

from . import power
from .journal_power import SteppedJournaled, Within
from .model import PAIR, State

AT_ONCE_MAX = 1_000


@define(eq=False, repr=False)
class UnsureFaults(Faults):
    """Faults that can also lose the outcome: a commit is on the disk, and is reported as failed."""

    is_unsure: bool = field(default=False, init=False)

    def after_commit(self, group: Sequence[Batch]) -> None:
        if self.is_unsure:
            self.is_unsure = False
            raise OSError(errno.EIO, "the disk did not say whether it wrote (a simulation)")


class SteppedCommitter(Committer):
    """Commits a group when `commit` is called, and reports it when `report` is."""

    is_automatic = False  # every batch is committed and reported in the round after it came
    commits_here = False  # a batch that is alone is committed by the loop, as if it were quick
    _is_committing = False

    @property
    def is_quick(self) -> bool:
        return self.commits_here and not self.waiting

    def start(self) -> None:
        pass

    def submit_all(self, batches: Sequence[Batch]) -> None:
        super().submit_all(batches)
        if self.is_automatic:
            self._call_soon_threadsafe(self._commit_and_report)

    def commit(self, count_max: int) -> None:
        """Commit the oldest batches, up to *count_max*, in one transaction."""
        waiting = self._next
        with suppress(Empty):
            while len(waiting) < count_max:
                batches = self._queue.get_nowait()
                assert batches is not None
                waiting.extend(batches)
        group = [waiting.popleft() for _ in range(min(count_max, len(waiting)))]
        if group:
            self._is_committing = True
            self._commit_and_wake(group)
            self._is_committing = False

    @property
    def has_batches(self) -> bool:
        """Whether there is something to commit."""
        return bool(self._next) or not self._queue.empty()

    def report(self) -> None:
        """Report to the loop what was committed, in its next round."""
        self._call_soon_threadsafe(self._report)

    def collect(self) -> None:
        """A step of freeing what was cleared."""
        self._collect_garbage()

    def _commit_and_report(self) -> None:
        self.commit(AT_ONCE_MAX)
        self._report()

    def _wake(self) -> None:
        if not self._is_committing:  # then `report` does it
            super()._wake()

    def stop(self) -> None:
        self._is_stopped = True
        self.commit(AT_ONCE_MAX)
        self.report()


class SteppedReads(Reads):
    """Reads in-line or as if in a thread, changing between the two when the simulation says so."""

    is_inline = True
    is_automatic = False
    waiting: int
    _asked: deque[Any]
    _read: list[Callable[[], None]]

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self._asked, self._read = deque(), []

    @property
    def inline(self) -> bool:
        return self.is_inline

    def fetch(
        self,
        read: Callable[[Any], Any],
        on_done: Callable[[Any], None],
        on_failed: Callable[[DurableError], None],
    ) -> None:
        self.waiting += 1
        self._asked.append((read, on_done, on_failed))
        if self.is_automatic:
            self._call_soon_threadsafe(self._read_and_report)

    def read_one(self) -> None:
        """Do the oldest read that waits."""
        if not self._asked:
            return
        read, on_done, on_failed = self._asked.popleft()
        reader = self._engine.new_reader()
        try:
            self._read.append(partial(on_done, read(reader)))
        except DurableError as error:
            self._read.append(partial(on_failed, error))
        finally:
            reader.close()

    def report(self) -> None:
        """Report to the loop what was read, in its next round."""
        reports, self._read = self._read, []
        if reports:
            self._call_soon_threadsafe(partial(self._report, reports))

    def _read_and_report(self) -> None:
        while self._asked:
            self.read_one()
        self.report()

    def close(self) -> None:
        self._is_closed = True


def open_engine(path: str, clock: Clock, *, journal: bool = False, **options: Any) -> Engine:
    """As `engines.open_engine` does, with a journal that moves in steps."""
    if journal:
        return SteppedJournaled(Environment.open(path, clock=clock), clock, follows=False)
    return engines.open_engine(path, clock, **options)


class SimulatedStore(OpenStore):
    """An open store whose disk moves in steps."""

    open_engine: ClassVar[Callable[..., Engine]] = staticmethod(open_engine)

    committer_class: ClassVar[type[Committer]] = SteppedCommitter
    reads_class: ClassVar[type[Reads]] = SteppedReads

    @property
    def _disk(self) -> OpenDisk:
        (disk,) = self._disks
        return disk

    @property
    def engine(self) -> Environment | SteppedJournaled:
        assert isinstance(self._disk.engine, Environment | SteppedJournaled)
        return self._disk.engine

    @property
    def environment(self) -> Environment:
        """The store's file."""
        engine = self.engine
        return engine if isinstance(engine, Environment) else engine.file

    @property
    def committer(self) -> SteppedCommitter:
        assert isinstance(self._disk.committer, SteppedCommitter)
        return self._disk.committer

    @property
    def reads(self) -> SteppedReads:
        assert isinstance(self._disk.reads, SteppedReads)
        return self._disk.reads

    def follow(self) -> None:
        """What is in the journal comes into the store's file."""
        assert isinstance(self.engine, SteppedJournaled)
        self.engine.bring_in()

    def cut_within(self, commit: Callable[[], None], target: Path, chance: Random) -> Within | None:
        """The power fails within *commit*: *target* has what is then on the disk. None if there was
        nothing to commit."""
        engine, page_size = self.engine, self.environment.handle.page_size
        if isinstance(engine, SteppedJournaled):
            return engine.cut_within(commit, target, page_size, chance)
        moment = power.cut_within(commit, Path(engine.path), target, page_size, chance)
        if moment is None:
            return None
        return Within(moment.value, moment in {power.Moment.META, power.Moment.LENGTHENED})

    def run_by_itself(self) -> None:
        """From now on what is asked of the disk is done in the next round of the loop."""
        self.committer.is_automatic = self.reads.is_automatic = True
        self.committer._call_soon_threadsafe(self.committer._commit_and_report)
        self.reads._call_soon_threadsafe(self.reads._read_and_report)


class open(open_for_test):
    """`durable.testing.open`, with a disk that moves in steps."""

    _store_class: ClassVar[type[OpenStore]] = SimulatedStore

    @property
    def store(self) -> SimulatedStore:
        assert isinstance(self._open, SimulatedStore)
        return self._open


def look(engine: Environment | SteppedJournaled, class_number: int, base: bytes) -> State | None:
    """The state of an object on the disk; None if it was written in halves."""
    if isinstance(engine, Environment):
        look_at = partial(_stored_in_file, class_number=class_number, base=base)
        record, stored = engine.handle.read(look_at)
    else:
        record, stored = _stored_with_journal(engine, class_number, base)
    if record is None:
        return State()
    decode = MsgpackCodec().decode
    found = {key: decode(value) for key, value in stored.items()}
    due_us = None if record.alarm is None else record.alarm.scheduled_us
    if found.get("due") != due_us or found.get(PAIR[0]) != found.get(PAIR[1]):
        return None
    return State.of(found)


Stored = tuple[ObjectRecord | None, dict[str, bytes]]
"""What is known of an object, and the encoded values of its keys."""


def _stored_in_file(txn: Any, databases: Any, *, class_number: int, base: bytes) -> Stored:
    record = object_index.find(txn, databases, class_number, base)
    if record is None:
        return None, {}
    pairs = long_keys.scan(txn, record.keyspace, b"", None, False)
    return record, {key.decode(): stored[1:-4] for key, stored in pairs}  # all protected


def _stored_with_journal(engine: SteppedJournaled, class_number: int, base: bytes) -> Stored:
    reader = engine.new_reader()
    try:
        record = find_by(reader, engine.file, class_number, base)
        if record is None:
            return None, {}
        pairs, _ = reader.scan_some(record.keyspace, count_max=None)
        return record, dict(pairs)
    finally:
        reader.close()
