"""The committer: one thread that makes batches durable, as many as wait in one transaction.

While one group is in fsync the next gathers. The loop's thread submits batches and is notified of
their outcome, once for a whole group. To wake the committer's thread, and be woken, takes a third
of a commit on a quick disk; so there the loop's thread itself commits a batch that is alone. Where
another process makes the commits, the loop's thread begins such a one, and hears that it has ended.

Rule: one group is committed at a time, whichever thread does it.

Rule: when a group has failed, its objects are marked as failed before anything else is taken from
the queue. So a batch that rests on lost ones is never committed.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue

from attrs import define, field

from durable._model.clock import SystemClock
from durable._model.errors import DurableError, RuntimeClosed

from .batch import Batch, size_of
from .begun import Begins, Ear, Loop
from .engine import Engine
from .outcomes import CommitFaults, CommitWatch, Group, Outcomes, raise_interrupt

# A group of this many bytes takes no more: the next one gets the rest.
GROUP_SIZE_MAX = 64 << 20
# While there is always a group to commit, garbage gets a step after this many.
GROUPS_PER_GARBAGE_STEP = 32
# The loop's thread commits while the disk takes less than this: then the rest of the program waits
# no longer than for a callback that computes a little.
QUICK_S_MAX = 0.0005
# How many groups must be quick and of one batch before the loop's thread commits, how far they are
# counted, and how many a slow one takes back; one that takes twice as long takes back all.
QUICK_MIN = 4
QUICK_MAX = 8
SLOW_TAKES_BACK = 3
# The largest batch that the loop's thread commits, or begins to, in bytes.
QUICK_SIZE_MAX = 16 << 10
# Of a group, so many batches are reported before the code goes on that waits for them: what they
# were made of is free then for what follows, and the garbage collector has half as much to look at.
REPORTED_AT_ONCE = 32


@define(eq=False, repr=False)
class Committer:
    """`submit` and `waiting` are the loop's; `call_soon_threadsafe` is the way back to it."""

    _engine: Engine
    _call_soon_threadsafe: Callable[[Callable[[], None]], object]
    # Where it is heard that a commit has ended, and lets the code go on that waits for a batch.
    _loop: Loop | None = field(default=None, kw_only=True)
    _faults: CommitFaults | None = field(default=None, kw_only=True)
    _watch: CommitWatch | None = field(default=None, kw_only=True)
    waiting: int = field(default=0, init=False)  # submitted and not yet reported
    # Whether the last group was of several batches: there may be many callers.
    was_shared: bool = field(default=False, init=False)
    _queue: SimpleQueue[Sequence[Batch] | None] = field(factory=SimpleQueue, init=False)
    # The committer's thread: taken from the queue, and in no group yet.
    _next: deque[Batch] = field(factory=deque, init=False)
    # Groups that were not reported on the loop yet, with the outcomes of those that failed.
    _answered: deque[Group] = field(factory=deque, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)
    _is_stopped: bool = field(default=False, init=False)
    _groups_in_a_row: int = field(default=0, init=False)
    # Held by the thread that writes; by the loop's as long as `_begun` is under way.
    _writing: threading.Lock = field(factory=threading.Lock, init=False)
    _quick: int = field(default=0, init=False)
    _outcomes: Outcomes = field(init=False)
    # None: the engine or the loop cannot do without the thread.
    _ear: Ear | None = field(default=None, init=False)
    _begins: bool = field(default=False, init=False)
    # The batch whose commit the loop has begun, and what was submitted since.
    _begun: Batch | None = field(default=None, init=False)
    _behind: list[Sequence[Batch]] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._outcomes = Outcomes(self._engine, self._watch)
        if self._loop is not None and isinstance(self._engine, Begins):
            self._ear = Ear(self._engine, self._loop, self._hear, self._leave_to_thread)
            self._begins = True

    def start(self) -> None:
        assert self._thread is None
        # A daemon, because a program that never closes its store must be able to exit.
        self._thread = threading.Thread(target=self._run, name="durable committer", daemon=True)
        self._thread.start()

    def submit(self, batch: Batch) -> None:
        """Commit *batch* after all that were submitted before, and call one of its callbacks."""
        self.submit_all((batch,))

    def submit_all(self, batches: Sequence[Batch]) -> None:
        """`submit` each of *batches*, in their order; they are in one group, unless it is full."""
        if self._is_stopped:
            raise RuntimeClosed("the store is being closed and takes no more writes")
        self.waiting += len(batches)
        if self._begun is None:
            self._put(batches)
        else:
            self._behind.append(batches)

    @property
    def is_quick(self) -> bool:
        """Whether a batch that is alone should be committed by the loop's thread."""
        return self._quick >= QUICK_MIN and self._is_idle

    def commit_here(self, batch: Batch) -> bool:
        """Commit *batch* on the caller's thread, which is the loop's, and call its callback; False
        if it should be submitted instead, and nothing was done."""
        if not self.is_quick or not self._claim_for(batch):
            return False
        try:
            group = self._commit([batch], may_wait=False)
        finally:
            self._writing.release()
        if group is None:
            return False
        self.waiting += 1
        self._answered.append(group)
        self._report()
        raise_interrupt(group)
        return True

    def begin(self, batch: Batch) -> bool:
        """Begin to commit *batch* on the caller's thread, which is the loop's; its callback is
        called in a later round. False if it should be submitted instead."""
        if not self._begins or not self._is_idle or not self._claim_for(batch):
            return False
        assert self._ear is not None
        has_begun = False
        try:
            if self._watch is not None:
                self._watch.begins([batch])
            has_begun = self._ear.begin(batch)
        finally:
            if self._ear.is_waiting:
                self.was_shared, self._quick = False, 0
                self.waiting += 1
                self._begun = batch
                if not has_begun:  # an interrupt: perhaps nothing would be heard of it
                    self._leave_to_thread()
            else:
                self._writing.release()
        return has_begun

    def begin_no_more(self) -> None:
        """Leave all commits to the thread from now on, one that is under way included. On the
        loop's thread; on any once the loop has ended."""
        self._begins = False
        self._leave_to_thread()
        if self._ear is not None:
            self._ear.close()

    def stop(self) -> None:
        """Commit what waits, and end. Blocks; what was committed is reported by the loop later."""
        if not self._is_stopped:
            self._is_stopped = True
            self._queue.put(None)
        if self._thread is not None:
            self._thread.join()

    # On the loop's thread: what it commits itself

    @property
    def _is_idle(self) -> bool:
        # Where faults may be, every commit is the thread's.
        return (
            not self.waiting
            and self._faults is None
            and not self._engine.has_garbage
            and not self._is_stopped
        )

    def _claim_for(self, batch: Batch) -> bool:
        """Begin to write, if *batch* may be committed by this thread."""
        return (
            not batch.clears
            and batch.size <= QUICK_SIZE_MAX
            and batch.handle.failed is None
            # Else the thread is in a step of freeing garbage, or in its last group.
            and self._writing.acquire(blocking=False)
        )

    def _put(self, batches: Sequence[Batch]) -> None:
        if self._ear is not None:
            self._ear.close()
        self._queue.put(batches)

    def _hear(self) -> None:
        """The commit that was begun may have ended."""
        assert self._ear is not None
        batch = self._begun
        if batch is None:
            self._ear.close()  # the connection has ended, perhaps: the next commit finds out
            return
        try:
            group = self._end_begun(batch, may_wait=False)
        except BaseException:  # an interrupt behind the answer, which is not known any more
            if not self._ear.is_waiting:
                self._leave_to_thread()  # it commits the same again: nothing else was since
            raise
        if group is not None:
            self._answered.append(group)
            self._writing.release()
            self._pass_on()
            self._report()
            raise_interrupt(group)

    def _leave_to_thread(self) -> None:
        batch = self._begun
        if batch is not None:
            # First into the queue: the thread may wait to free garbage, and looks there then.
            self._put([batch])
            self._writing.release()
            self._pass_on()

    def _pass_on(self) -> None:
        """`_begun` is not the loop's any more: the thread gets what came behind it."""
        self._begun = None
        behind, self._behind = self._behind, []
        for batches in behind:
            self._put(batches)

    # On the committer's thread

    def _run(self) -> None:
        is_last = False
        while not is_last:
            group, is_last = self._take()
            if group:
                self._commit_and_wake(group)

    def _take(self) -> tuple[list[Batch], bool]:
        """All that waits, up to a full group, and whether it is the last; waits for the first."""
        upcoming = self._next
        if not upcoming and not self._wait():
            return [], True
        group: list[Batch] = []
        size = 0
        while True:
            added = sum(map(size_of, upcoming))
            if (
                size + added < GROUP_SIZE_MAX
                and len(group) + len(upcoming) < self._engine.group_max
            ):  # as a rule
                group += upcoming
                size += added
                upcoming.clear()
            while upcoming:
                batch = upcoming.popleft()
                group.append(batch)
                size += batch.size
                if size >= GROUP_SIZE_MAX or len(group) >= self._engine.group_max:
                    return group, False
            try:
                batches = self._queue.get_nowait()
            except Empty:
                return group, False
            if batches is None:
                return group, True
            upcoming.extend(batches)

    def _wait(self) -> bool:
        """Wait for something to commit, and free garbage meanwhile; False if nothing comes."""
        if self._groups_in_a_row >= GROUPS_PER_GARBAGE_STEP:
            self._collect_garbage()
        self._groups_in_a_row += 1
        while self._engine.has_garbage:
            with suppress(Empty):
                return self._took(self._queue.get_nowait())
            self._collect_garbage()
        return self._took(self._queue.get())

    def _took(self, batches: Sequence[Batch] | None) -> bool:
        if batches is None:
            return False
        self._next.extend(batches)
        return True

    def _collect_garbage(self) -> None:
        self._groups_in_a_row = 0
        if self._engine.has_garbage:
            try:
                with self._writing:
                    if self._is_left_one:
                        return
                    self._engine.collect_garbage()
                self._wake()  # so that the loop's reader does not keep what was freed
            except DurableError:
                # Nothing is lost by that; the next clear, or the next open, tries again.
                self._engine.has_garbage = False

    @property
    def _is_left_one(self) -> bool:
        """Whether the loop has left a commit that it has begun to this thread."""
        return self._ear is not None and self._ear.is_waiting

    def _commit_and_wake(self, taken: list[Batch]) -> None:
        rest: list[Batch] = []
        with self._writing:
            if self._is_left_one:  # then it was the first in the queue
                group = self._end_begun(taken[0], may_wait=True)
                rest = taken[1:]
            else:
                group = self._commit(taken)
        assert group is not None
        self._answered.append(group)
        self._wake()
        if rest:
            self._commit_and_wake(rest)

    # On either thread, which has `_writing`

    def _commit(self, taken: list[Batch], *, may_wait: bool = True) -> Group | None:
        """Commit *taken*; None if the engine would have to wait, and must not."""
        # Outcomes are recorded here: until the loop reports them, more handles may fail.
        failures = {b: b.handle.failed for b in taken if b.handle.failed is not None}
        group = [b for b in taken if b not in failures] if failures else taken
        self.was_shared = len(group) > 1
        if self._watch is not None:
            self._watch.begins(group)
        commit = partial(self._commit_by_engine, group, may_wait=may_wait)
        return self._outcomes.of(taken, group, failures, commit)

    def _commit_by_engine(self, group: list[Batch], *, may_wait: bool) -> bool:
        if self._faults is not None:
            self._faults.before_commit(group)
        quick, self._quick = self._quick, 0
        began_s = SystemClock.steady()
        if not self._engine.commit(group, may_wait=may_wait):
            return False
        took_s = SystemClock.steady() - began_s
        if len(group) == 1 and took_s < 2 * QUICK_S_MAX:
            is_slow = took_s >= QUICK_S_MAX
            self._quick = max(quick - SLOW_TAKES_BACK, 0) if is_slow else min(quick + 1, QUICK_MAX)
        if self._faults is not None:
            self._faults.after_commit(group)
        return True

    def _end_begun(self, batch: Batch, *, may_wait: bool) -> Group | None:
        """The outcome of what was begun; None if it has not ended."""
        assert self._ear is not None
        has_ended = partial(self._ear.has_ended, may_wait=may_wait)
        return self._outcomes.of([batch], [batch], {}, has_ended)

    def _wake(self) -> None:
        # Nothing waits on a closed loop any more.
        with suppress(RuntimeError):
            self._call_soon_threadsafe(self._report)

    # On the loop's thread

    def _report(self) -> None:
        """Report to each batch's origin, in order, whatever one of them does. There may be none."""
        if not self._answered:
            self._engine.refresh()
        elif self._loop is None:
            self._report_all(_later)
        else:
            self._loop.letting_go_on(self._report_all)

    def _report_all(self, resume: Callable[[], None]) -> None:
        answered = self._answered
        try:
            while answered:
                # For each group: one may have been committed while the last was reported, and what
                # is durable is read from the disk.
                self._engine.refresh()
                batches, failures = answered[0]
                while batches:
                    batch = batches.popleft()
                    self.waiting -= 1
                    if failures and batch in failures:
                        batch.origin.batch_failed(batch, failures[batch])
                    else:
                        batch.origin.batch_durable(batch)
                    if not len(batches) % REPORTED_AT_ONCE:
                        resume()
                answered.popleft()
        finally:
            # Only if a callback raised, perhaps a KeyboardInterrupt: go on in the next round.
            if answered:
                self._wake()

    def __repr__(self) -> str:
        state = "stopped" if self._is_stopped else "idle" if not self.waiting else "busy"
        return f"<Committer {state}, {self.waiting} batches waiting>"


def _later() -> None:
    """Those that wait for a batch go on when all have heard."""
