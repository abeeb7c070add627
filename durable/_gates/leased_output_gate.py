"""The output gate of an object whose process has it by a lease: once that is over, nothing leaves.

A process that was stopped does not know, when it goes on, that another one has taken over. Its
commits are refused by the database; what it would say without one must not leave either. So each
message asks the lease at the moment at which it would leave.

Rule: what may not leave waits. The object breaks soon, and whoever waits is told then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from attrs import define, field

from .output_gate import Held, OutputGate, Release, Unheard


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
        if self._waiting is not None and self._may_speak():
            OutputGate.release(self)

    def when_durable(
        self, seqno: int, release: Callable[[], None], unheard: Unheard | None = None
    ) -> None:
        if seqno <= self.durable and self._may_speak():
            release()
        else:
            self._keep(Release(seqno, release, unheard))

    def hold(self, message: Held) -> None:
        if message.seqno <= self.durable and self._may_speak():
            message.let_out()
        else:
            self._keep(message)

    def _let_go(self, unsaid: list[tuple[int, Callable[[], None], Unheard | None]]) -> None:
        if self._may_speak():
            OutputGate._let_go(self, unsaid)
            return
        self._said += len(unsaid)
        for seqno, release, unheard in unsaid:
            self._keep(Release(seqno, release, unheard))
