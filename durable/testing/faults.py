"""Faults: a disk that stalls, fails, or loses power on a test's order."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from attrs import define, field

from durable._engine.batch import Batch


@define(eq=False, repr=False)
class Faults:
    """Give it to `durable.testing.open(faults=)`; every method may be called while the store runs.

    Commits are counted in groups: the batches that the committer takes together are one.
    """

    _lock: threading.Condition = field(factory=threading.Condition, init=False)
    _held: int = field(default=0, init=False)
    _let_through: int = field(default=0, init=False)
    _waiting: int = field(default=0, init=False)
    _fail_after: int | None = field(default=None, init=False)
    _dark_after: int | None = field(default=None, init=False)
    _reads_held: int = field(default=0, init=False)
    _reads_waiting: int = field(default=0, init=False)

    @contextmanager
    def hold_commits(self) -> Iterator[None]:
        """Inside of this block no commit goes on; they all do at its end."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
                if not self._held:
                    self._let_through = 0
                self._lock.notify_all()

    def let_one_commit(self) -> None:
        """Let one held group go on, or the next one that is held."""
        with self._lock:
            self._let_through += 1
            self._lock.notify_all()

    def fail_commits(self, after: int = 0) -> None:
        """Let *after* more commits succeed, then fail every one, as a full or broken disk does."""
        with self._lock:
            self._fail_after = _checked(after)

    def repair(self) -> None:
        """Let commits succeed again."""
        with self._lock:
            self._fail_after = self._dark_after = None

    def lose_power(self, after: int = 0) -> None:
        """Let *after* more commits reach the disk, and none after them until the store is opened
        anew, or `repair`."""
        with self._lock:
            self._dark_after = _checked(after)

    @contextmanager
    def hold_reads(self) -> Iterator[None]:
        """Within this block reads of what is not in memory wait; they go on at its end."""
        with self._lock:
            self._reads_held += 1
        try:
            yield
        finally:
            with self._lock:
                self._reads_held -= 1
                self._lock.notify_all()

    @property
    def commits_waiting(self) -> int:
        """How many groups are held at this moment."""
        return self._waiting

    # The disk's side, on its threads

    @property
    def holds_commits(self) -> bool:
        return self._held > 0

    @property
    def holds_reads(self) -> bool:
        return self._reads_held > 0

    @property
    def is_commit_stuck(self) -> bool:
        """Whether the committer's thread waits for the test."""
        with self._lock:
            return self._held > 0 and self._waiting > 0 and not self._let_through

    @property
    def is_read_stuck(self) -> bool:
        """Whether the reader's thread waits for the test."""
        with self._lock:
            return self._reads_held > 0 and self._reads_waiting > 0

    def before_commit(self, group: Sequence[Batch]) -> None:
        with self._lock:
            self._waiting += 1
            while self._held and not self._let_through:
                self._lock.wait()
            self._waiting -= 1
            if self._held:
                self._let_through -= 1
            self._fail_after = self._count(self._fail_after, "the disk failed")
            self._dark_after = self._count(self._dark_after, "the power is out")

    def power_is_back(self) -> None:
        """Let commits reach the disk again, which closing the store does too."""
        with self._lock:
            self._dark_after = None

    def after_commit(self, group: Sequence[Batch]) -> None:
        """Does nothing: a commit that has reached the disk succeeds."""

    def before_read(self) -> None:
        with self._lock:
            self._reads_waiting += 1
            while self._reads_held:
                self._lock.wait()
            self._reads_waiting -= 1

    @staticmethod
    def _count(left: int | None, text: str) -> int | None:
        if left is None:
            return None
        if left <= 0:
            raise OSError(errno.EIO, f"{text} (durable.testing.Faults)")
        return left - 1

    def __repr__(self) -> str:
        return f"<Faults, {self._waiting} commits held>"


def _checked(after: int) -> int:
    if after < 0:
        raise ValueError(f"after that many commits nothing can fail: after={after}")
    return after
