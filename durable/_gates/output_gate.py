"""The output gate: nothing that an object says is heard before what it rests on is on disk.

Batches become durable in the order they were sealed, so two counters say it all. A message that is
to leave takes a seqno, the number of the last batch that it must wait for, and is let out when the
durable counter gets there. A thousand messages behind one commit go out in one pass.

What code says in its turn is *unsaid* until the turn ends, or waits for others: a reset takes it
back with the turn's writes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, frozen

from durable._model.errors import DurableError
from durable._model.log import log


class Held(Protocol):
    """A message that waits to leave."""

    @property
    def seqno(self) -> int:
        """The batch that it waits for."""

    def let_out(self) -> None:
        """It may leave."""


class Unheard(Protocol):
    """What gets the error if a message is never sent."""

    def fail(self, error: DurableError, /) -> None: ...


class Reply(Held, Protocol):
    """A message that is numbered when it is held."""

    seqno: int


@frozen(eq=False)
class Release:
    """A message that is a function."""

    seqno: int
    let_out: Callable[[], None]
    unheard: Unheard | None


@define(eq=False, slots=True)
class OutputGate:
    """Counts the batches of one object. Nothing here suspends."""

    sealed: int = 0
    # Raised when a batch is on disk, with all before it; `release` follows.
    durable: int = 0
    # The last batch with a write in it that was not `allow_unconfirmed`.
    _confirmed: int = 0
    # The turn under way has written; `seal` makes a batch of it.
    has_unsealed: bool = False
    # The object broke: nothing leaves any more.
    is_closed: bool = False
    # A seqno was given out for the batch that the turn under way will be.
    _is_promised: bool = False
    # A list, since there are few as a rule, and an empty deque is ten times as large; a single one
    # stands by itself.
    _waiting: Held | list[Held] | None = None
    # What the turn under way has said: the batch that it waits for, the message, and what gets the
    # error if it is never sent.
    unsaid: list[tuple[int, Callable[[], None], Unheard | None]] | None = None
    # How many messages of turns have left; and have left, or are about to.
    _said: int = 0
    _leaving: int = 0

    def note_write(self, confirmed: bool = True) -> None:
        """The turn under way has written."""
        self.has_unsealed = True
        if confirmed:
            self._confirmed = self.sealed + 1

    def confirm_all(self) -> None:
        """What leaves from now on waits for all that was written so far, unconfirmed or not."""
        self._confirmed = self.sealed + self.has_unsealed

    def seal(self) -> int:
        """The turn's writes are one batch from now on; returns its number."""
        self.has_unsealed = self._is_promised = False
        self.sealed += 1
        return self.sealed

    def join_nowait(self) -> bool:
        """Let the turn's writes be part of the last batch, which has not left yet.

        Not if a seqno was given out for the turn's own batch: that batch would never come.
        """
        if self._is_promised:
            return False
        self.has_unsealed = False
        self._confirmed = min(self._confirmed, self.sealed)
        return True

    def release(self) -> None:
        """Let out what waited for the batches that are durable by now."""
        found = self._waiting
        if found is None:
            return
        number = self.durable
        waiting: Sequence[Held] = found if isinstance(found, list) else (found,)
        if waiting[-1].seqno <= number:  # all of them, as a rule
            self._waiting = None  # not an empty list, which an idle object does not need
        else:
            count = next(n for n, message in enumerate(waiting) if message.seqno > number)
            waiting, self._waiting = waiting[:count], list(waiting[count:])
        for message in waiting:
            if self.is_closed:
                return  # what was let out before has broken the object
            try:
                message.let_out()
            except Exception:  # no matter of the messages behind it
                log.exception("a message could not leave an object: %r", message)

    def seqno(self) -> int:
        """What a message that leaves now has to wait for."""
        if self._confirmed > self.sealed:
            self._is_promised = True
        return self._confirmed

    def seqno_of_all(self) -> int:
        """The same for every write so far, `allow_unconfirmed` ones too."""
        if self.has_unsealed:
            self._is_promised = True
        return self.sealed + self.has_unsealed

    def is_open(self) -> bool:
        """Whether a message made now may leave at once."""
        return self._confirmed <= self.durable

    def is_durable(self, seqno: int) -> bool:
        return seqno <= self.durable

    @property
    def in_flight(self) -> int:
        """How many batches are sealed and not yet durable."""
        return self.sealed - self.durable

    def when_durable(
        self, seqno: int, release: Callable[[], None], unheard: Unheard | None = None
    ) -> None:
        """Call *release* when *seqno* is on disk: at once, or later on the loop's thread.

        If that never happens, *unheard* is called with the reason.
        """
        if seqno <= self.durable:
            release()
        else:
            self.hold(Release(seqno, release, unheard))

    def keeps(self, message: Reply) -> bool:
        """Hold *message* until the confirmed writes so far are on disk; False if they are by now,
        so that it may leave at once and was not held."""
        seqno = self._confirmed
        if seqno <= self.durable:
            return False
        if seqno > self.sealed:
            self._is_promised = True
        message.seqno = seqno
        if self._waiting is None:  # as a rule
            self._waiting = message
        else:
            self._keep(message)
        return True

    def hold(self, message: Held) -> None:
        """Let *message* out when its seqno is on disk: at once, or later on the loop's thread."""
        if message.seqno <= self.durable:
            message.let_out()
        else:
            self._keep(message)

    def _keep(self, message: Held) -> None:
        """Keep *message* with those that wait, in its place."""
        seqno = message.seqno
        waiting = self._waiting
        if waiting is None:
            self._waiting = message
            return
        if not isinstance(waiting, list):
            waiting = self._waiting = [waiting]
        # Sequence numbers rise, but for those of `seqno_of_all`, which may be ahead of the next.
        place = len(waiting)
        while place and waiting[place - 1].seqno > seqno:
            place -= 1
        waiting.insert(place, message)

    # What a turn says

    @property
    def is_unfinished(self) -> bool:
        """The turn under way has written or said something, and is not over."""
        return self.has_unsealed or self.unsaid is not None

    def let_go(self) -> None:
        """What the turn under way has said may leave, in its order."""
        while self.unsaid is not None:
            unsaid, self.unsaid = self.unsaid, None
            self._let_go(unsaid)

    def begin_to_leave(self) -> int | None:
        """What to give to `let_go_until` for all that is said by now; None if that is under way."""
        until = self._said + len(self.unsaid or ())
        if until <= self._leaving:
            return None
        self._leaving = until
        return until

    def let_go_until(self, number: int) -> None:
        """What was said by then may leave, if it has not."""
        count = number - self._said
        if self.unsaid is not None and count > 0:
            unsaid, self.unsaid = self.unsaid[:count], self.unsaid[count:] or None
            self._let_go(unsaid)

    def _let_go(self, unsaid: list[tuple[int, Callable[[], None], Unheard | None]]) -> None:
        self._said += len(unsaid)
        for seqno, release, unheard in unsaid:
            if self.is_closed:
                return  # what was let out before has broken the object
            if seqno <= self.durable:
                try:
                    release()
                except Exception:  # no matter of the messages behind it
                    log.exception("a message could not leave an object: %r", release)
            else:
                self.hold(Release(seqno, release, unheard))

    def _held(self) -> list[Held]:
        waiting = self._waiting
        if waiting is None:
            return []
        return waiting if isinstance(waiting, list) else [waiting]

    def drop_waiting(self) -> list[Unheard]:
        """Forget the messages that wait here; returns what gets the error for each."""
        self.is_closed = True
        self._confirmed = sys.maxsize  # so the gate is never open again
        waiting, self._waiting = self._held(), None
        unsaid, self.unsaid = self.unsaid, None
        callers = [getattr(message, "unheard", None) for message in waiting]
        callers += [unheard for _, _, unheard in unsaid or ()]
        return [unheard for unheard in callers if unheard is not None]

    def __repr__(self) -> str:
        held = len(self._held())
        return f"<OutputGate {self.durable} of {self.sealed} durable, {held} held>"
