"""The output gate of an object whose process has it by a lease: once that is over, nothing leaves.

A process that was stopped does not know, when it goes on, that another one has taken over. Its
commits are refused by the database; what it would send without one must not leave either. So each
message checks the lease at the moment at which it would leave.

Rule: what may not leave waits. The object breaks soon, and then each waiter gets the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field

from durable._model.log import log

from .output_gate import Held, OutputGate, Release, Reply, Unheard


class Lease(Protocol):
    """What the process has its objects by."""

    def is_valid(self) -> bool:
        """Whether what this process says now is its to say."""


@define(eq=False, slots=True)
class LeasedOutputGate(OutputGate):
    """An output gate that asks a lease. Nothing here suspends."""

    lease: Lease = field(kw_only=True)
    # The lease is over: have the objects broken, though not at once, since one of them runs.
    on_over: Callable[[], None] = field(kw_only=True, repr=False)

    def _may_speak(self) -> bool:
        if self.lease.is_valid():
            return True
        self.on_over()
        return False

    def is_open(self) -> bool:
        return self._confirmed <= self.durable and self._may_speak()

    def release(self) -> None:
        waiting = self._waiting
        if waiting is None:
            return
        durable: Sequence[Held]
        if not isinstance(waiting, list) and waiting.seqno <= self.durable:  # as a rule
            self._waiting, durable = None, (waiting,)
        else:
            held = self._held()
            durable = [message for message in held if message.seqno <= self.durable]
            self._waiting = held[len(durable) :] or None
        # Each asks the lease: the process may be stopped between any two of them.
        for message in durable:
            if self.is_closed:
                return  # what was let out before has broken the object
            try:
                self.hold(message)
            except Exception:  # no matter of the messages behind it
                log.exception("a message could not leave an object: %r", message)

    def when_durable(
        self, seqno: int, release: Callable[[], None], unheard: Unheard | None = None
    ) -> None:
        if seqno <= self.durable and self._may_speak():
            release()
        else:
            self._keep(Release(seqno, release, unheard))

    def keeps(self, message: Reply) -> bool:
        if self._confirmed <= self.durable and self._may_speak():
            return False
        message.seqno = self.seqno()
        self._keep(message)
        return True

    def hold(self, message: Held) -> None:
        if message.seqno <= self.durable and self._may_speak():
            message.let_out()
        else:
            self._keep(message)

    def _let_go(self, unsaid: list[tuple[int, Callable[[], None], Unheard | None]]) -> None:
        self._said += len(unsaid)
        for seqno, release, unheard in unsaid:
            if self.is_closed:
                return  # as above
            try:
                self.when_durable(seqno, release, unheard)
            except Exception:  # as above
                log.exception("a message could not leave an object: %r", release)
