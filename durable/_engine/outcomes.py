"""What becomes of a group: its batches are durable or have failed, and then their objects have."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from attrs import define

from durable._model.errors import CommitFailed, DurableError, StoreFull

from .batch import Batch
from .engine import Engine

Group = tuple[deque[Batch], dict[Batch, DurableError]]


class CommitFaults(Protocol):
    """A test's control over commits. Called on the committer's thread, which then makes all of
    them; both may block."""

    def before_commit(self, group: Sequence[Batch]) -> None:
        """An OSError that is raised here fails the commit; nothing of it is stored."""

    def after_commit(self, group: Sequence[Batch]) -> None:
        """The group is on disk, and no batch was reported yet. An OSError still fails it."""


class CommitWatch(Protocol):
    """Observes commits, on the thread that makes them, one at a time; must not raise."""

    def begins(self, group: Sequence[Batch]) -> None: ...

    def ended(self, group: Sequence[Batch], error: DurableError | None) -> None: ...


@define(eq=False)
class Outcomes:
    """The outcomes of commits, for the thread that makes them."""

    _engine: Engine
    _watch: CommitWatch | None

    def of(
        self,
        taken: list[Batch],
        group: list[Batch],
        failures: dict[Batch, DurableError],
        has_ended: Callable[[], bool],
    ) -> Group | None:
        """That of *group*, those of *taken* which have not failed already, as *has_ended* returns
        or raises it; None if it has not ended."""
        failure: DurableError | None = None
        try:
            if not has_ended():
                return None
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
        return deque(taken), failures

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
            return ()  # the first failure is the one that is reported
        return set(freeing)


def raise_interrupt(group: Group) -> None:
    """Raise what the program was to get, and got while the loop's thread was with *group*."""
    for failure in group[1].values():
        if isinstance(failure.__cause__, KeyboardInterrupt | SystemExit):
            raise failure.__cause__


def _as_failure(cause: BaseException) -> DurableError:
    """The error of the batches in a commit that *cause* has ended."""
    if isinstance(cause, DurableError):
        return cause
    error: DurableError
    if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        error = StoreFull(f"the disk has no room, and nothing of the commit was stored: {cause}")
    else:
        error = CommitFailed(f"a commit failed, and nothing of it was stored: {cause!r}")
    error.__cause__ = cause
    return error
