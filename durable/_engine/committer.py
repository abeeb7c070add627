"""The committer: one thread that makes batches durable, as many as wait in one transaction.

While one group is in fsync the next gathers. The loop's thread submits and is told; it is woken
once for a whole group.

Rule: when a group has failed, its objects are marked as failed before anything else is taken from
the queue. So a batch that rests on lost ones is never committed.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Protocol

from attrs import define, field

from durable._model.errors import CommitFailed, DurableError, RuntimeClosed, StoreFull

from .batch import Batch
from .engine import Engine

# A group that has so many bytes takes no more: the next one gets the rest.
GROUP_SIZE_MAX = 64 << 20
# While there is always a group to commit, garbage gets a step after this many.
GROUPS_PER_GARBAGE_STEP = 32


Group = tuple[deque[Batch], dict[Batch, DurableError]]


class CommitFaults(Protocol):
    """What a test does to commits. Called on the committer's thread; both may block."""

    def before_commit(self, group: Sequence[Batch]) -> None:
        """An OSError that is raised here fails the commit; nothing of it is stored."""

    def after_commit(self, group: Sequence[Batch]) -> None:
        """The group is on the disk, and nobody knows yet. An OSError fails it none the less."""


class CommitWatch(Protocol):
    """Who is told of commits. Called on the committer's thread; raises nothing."""

    def begins(self, group: Sequence[Batch]) -> None: ...

    def ended(self, group: Sequence[Batch], error: DurableError | None) -> None: ...


@define(eq=False, repr=False)
class Committer:
    """`submit` and `waiting` are the loop's; `call_soon_threadsafe` is the way back to it."""

    _engine: Engine
    _call_soon_threadsafe: Callable[[Callable[[], None]], object]
    _faults: CommitFaults | None = field(default=None, kw_only=True)
    _watch: CommitWatch | None = field(default=None, kw_only=True)
    waiting: int = field(default=0, init=False)  # submitted and not yet answered
    _queue: SimpleQueue[Batch | None] = field(factory=SimpleQueue, init=False)
    # Groups that the loop has not heard of yet, with what became of those that failed.
    _answered: deque[Group] = field(factory=deque, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _is_stopped: bool = field(default=False, init=False)
    _groups_in_a_row: int = field(default=0, init=False)

    def start(self) -> None:
        assert self._thread is None
        # A daemon, because a program that never closes its store must be able to exit.
        self._thread = threading.Thread(target=self._run, name="durable committer", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """Commit *batch* after all that were submitted before, and call one of its callbacks."""
        if self._is_stopped:
            raise RuntimeClosed("the store is being closed and takes no more writes")
        self.waiting += 1
        self._queue.put(batch)

    def stop(self) -> None:
        """Commit what waits, and end. Blocks; what was committed is reported by the loop later."""
        if not self._is_stopped:
            self._is_stopped = True
            self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    # On the committer's thread

    def _run(self) -> None:
        is_last = False
        while not is_last:
            group, is_last = self._take()
            if group:
                self._commit(group)

    def _take(self) -> tuple[list[Batch], bool]:
        """All that waits, and whether it is the last; waits for the first of it."""
        queue = self._queue
        batch = self._take_first()
        group: list[Batch] = []
        size = 0
        while batch is not None:
            group.append(batch)
            size += batch.size
            if size >= GROUP_SIZE_MAX:
                return group, False
            try:
                batch = queue.get_nowait()
            except Empty:
                return group, False
        return group, True

    def _take_first(self) -> Batch | None:
        if self._groups_in_a_row >= GROUPS_PER_GARBAGE_STEP:
            self._collect_garbage()
        self._groups_in_a_row += 1
        while self._engine.has_garbage:
            try:
                return self._queue.get_nowait()
            except Empty:
                self._collect_garbage()
        return self._queue.get()

    def _collect_garbage(self) -> None:
        self._groups_in_a_row = 0
        if self._engine.has_garbage:
            try:
                self._engine.collect_garbage()
                self._wake()  # the loop's reader is not to keep what was freed
            except DurableError:
                # It is no loss of anybody's; the next wipe, or the next open, tries again.
                self._engine.has_garbage = False

    def _commit(self, taken: list[Batch]) -> None:
        # Outcomes are written down here: until the loop hears of them, more handles may fail.
        failures = {b: b.handle.failed for b in taken if b.handle.failed is not None}
        group = [b for b in taken if b not in failures] if failures else taken
        failure: DurableError | None = None
        if self._watch is not None:
            self._watch.begins(group)
        try:
            if self._faults is not None:
                self._faults.before_commit(group)
            self._engine.commit(group)
            if self._faults is not None:
                self._faults.after_commit(group)
        except BaseException as cause:
            error = failure = _as_failure(cause)
            stored = self._commit_what_frees(group) if isinstance(error, StoreFull) else ()
            for batch in group:
                if batch in stored:
                    continue
                failures[batch] = error
                if batch.handle.failed is None:
                    batch.handle.failed = error
        if self._watch is not None:
            self._watch.ended(group, failure)
        self._answered.append((deque(taken), failures))
        self._wake()

    def _commit_what_frees(self, group: list[Batch]) -> Collection[Batch]:
        """The disk is full: commit those that only delete, without the others; returns them."""
        kept_out: set[int] = set()  # what comes behind a lost batch of its object is lost, too
        freeing: list[Batch] = []
        for batch in group:
            if batch.frees and id(batch.handle) not in kept_out:
                freeing.append(batch)
            else:
                kept_out.add(id(batch.handle))
        if not kept_out or not freeing:
            return ()
        try:
            self._engine.commit(freeing)
        except Exception:
            return ()  # the first failure is what is told
        return set(freeing)

    def _wake(self) -> None:
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            self._call_soon_threadsafe(self._report)

    # On the loop's thread

    def _report(self) -> None:
        """Tell everybody, in order, whatever one of them does. There may be nothing to tell."""
        self._engine.refresh()
        answered = self._answered
        try:
            while answered:
                batches, failures = answered[0]
                while batches:
                    batch = batches.popleft()
                    self.waiting -= 1
                    error = failures.get(batch) if failures else None
                    if error is None:
                        batch.origin.batch_durable(batch)
                    else:
                        batch.origin.batch_failed(batch, error)
                answered.popleft()
        finally:
            # Only if one of them raised, a KeyboardInterrupt perhaps: go on in the next round.
            if answered:
                self._wake()

    def __repr__(self) -> str:
        state = "stopped" if self._is_stopped else "idle" if not self.waiting else "busy"
        return f"<Committer {state}, {self.waiting} batches waiting>"


def _as_failure(cause: BaseException) -> DurableError:
    """What to tell those whose batches were in a commit that *cause* has ended."""
    if isinstance(cause, DurableError):
        return cause
    error: DurableError
    if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        error = StoreFull(f"the disk has no room, and nothing of the commit was stored: {cause}")
    else:
        error = CommitFailed(f"a commit failed, and nothing of it was stored: {cause!r}")
    error.__cause__ = cause
    return error
