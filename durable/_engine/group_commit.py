"""Group commit, the loop's half: which batches go to the committer together.

A batch that is alone goes at once; where the disk is quick it is committed here, in the next round
of the loop, if it is still alone. One that more is likely to follow, in this round or in the next
few, is kept open: the turns that follow may join it, and the batches of other objects leave with
it, as one transaction with one sync. How long a batch may be kept is a number of rounds.

Rule: batches leave in the order in which they came, and nothing here suspends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import Final, Protocol

from attrs import define, field

from durable._model.errors import RuntimeClosed

from .batch import UNCHANGED, Batch, Callbacks, ObjectHandle
from .committer import Committer

# While deliveries wait in line at an object that writes, its batch is kept for up to so many rounds
# of the loop: their writes join it.
GATHER_ROUNDS_MAX: Final = 4


_more_follows = attrgetter("more_follows")


class Workers(Protocol):
    """What runs the code of objects."""

    @property
    def is_busy(self) -> bool:
        """Whether other code of objects runs in this round of the loop, or in the next."""


@define(eq=False, repr=False)
class GroupCommit:
    """Receives each batch that an object makes, and passes it to the committer in time."""

    _committer: Committer
    _workers: Workers
    _call_soon: Callable[[Callable[[], None]], object]
    # Called with a batch that changes an alarm, before it leaves.
    on_alarm: Callable[[Batch], None] | None = field(default=None, init=False)
    # Batches that leave together, in one of the next rounds of the loop.
    _gathered: list[Batch] = field(factory=list, init=False)
    _rounds_left: int = field(default=0, init=False)
    _has_loop: bool = field(default=True, init=False)

    @property
    def waiting(self) -> int:
        """How many batches are not yet reported durable, or failed."""
        return self._committer.waiting + len(self._gathered)

    def submit(self, batch: Batch) -> None:
        """Commit *batch* after all that were submitted before, and call one of its callbacks."""
        gathered = self._gathered
        if not gathered:
            is_alone = not (self._committer.waiting or batch.more_follows or self._workers.is_busy)
            if is_alone and not (self._may_share and self._has_loop):
                self._send(batch)
                return
            if self._has_loop:
                self._rounds_left = GATHER_ROUNDS_MAX
                self._call_soon(self._end_round)
        # More is written in this round, or was. Woken for this one batch, the committer would
        # commit it alone, and compete with the loop for the interpreter meanwhile.
        batch.is_open = True
        gathered.append(batch)

    @property
    def _may_share(self) -> bool:
        # Callers that hear of one group together write the next one together.
        return self._committer.is_quick or self._committer.was_shared

    def flush(self) -> None:
        """Pass all that was gathered to the committer."""
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        for batch in gathered:
            batch.is_open = False
            if batch.alarm is not UNCHANGED and self.on_alarm is not None:
                self.on_alarm(batch)
        self._submit(gathered)

    def when_answered(self, callback: Callable[[], object]) -> None:
        """Call *callback* when each batch submitted so far is durable or has failed; never once
        the committer is stopped."""
        self.flush()
        marker = Batch(
            handle=ObjectHandle(0, b"", 0, None, None, None),
            clears=False,
            puts={},
            alarm=UNCHANGED,
            origin=Callbacks(callback, lambda error: callback()),
            size=0,
        )
        with suppress(RuntimeClosed):
            self._committer.submit(marker)

    def lose_loop(self) -> None:
        """The event loop has ended: what is submitted from now on waits for `flush`."""
        self._has_loop = False
        self.on_alarm = None
        self._committer.begin_no_more()

    def _end_round(self) -> None:
        self._rounds_left -= 1
        if self._rounds_left and any(map(_more_follows, self._gathered)):
            self._call_soon(self._end_round)
        elif len(self._gathered) == 1 and not self._workers.is_busy:
            batch = self._gathered.pop()
            batch.is_open = False
            self._send(batch, is_alone=True)
        else:
            self.flush()

    def _send(self, batch: Batch, *, is_alone: bool = False) -> None:
        if batch.alarm is not UNCHANGED and self.on_alarm is not None:
            self.on_alarm(batch)
        if self._has_loop and self._committer.begin(batch):
            return
        if not (is_alone and self._committer.commit_here(batch)):
            self._submit([batch])

    def _submit(self, batches: list[Batch]) -> None:
        try:
            self._committer.submit_all(batches)
        except RuntimeClosed as closed:
            # The time to close is over, and code of the object goes on writing, cancelled or not.
            for batch in batches:
                batch.origin.batch_failed(batch, closed)

    def __repr__(self) -> str:
        return f"<GroupCommit {len(self._gathered)} batches gathered>"
