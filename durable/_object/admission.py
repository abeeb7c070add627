"""Admission: which invocations an object takes, in which order, and which it refuses.

Rule: an invocation has its place in line from `deliver` on, or its answer. A line that is full, too
heavy or too slow refuses, as Cloudflare's does; what has to wait behind a critical section is
checked for a deadlock.
"""

from __future__ import annotations

from typing import Any

from durable._model.errors import DurableError, ObjectOverloaded

from . import deadlocks
from .invocation import Invocation, size_of
from .lifecycle import Lifecycle
from .live import Phase
from .reasons import TOO_LONG, TOO_MANY, TOO_MUCH


class Admission(Lifecycle):
    """The line of a live object, and the answers that end an invocation's part in it."""

    __slots__ = ()

    idle_since_s: float

    def deliver(self, invocation: Invocation[Any]) -> None:
        """Give *invocation* its place in line; it gets its answer, whatever happens."""
        gate, services = self.gate, self.services
        if services.hooks is not None:
            services.hooks.came(self, invocation)
        if gate.broken is not None:
            self._refuse(invocation, gate.broken.again())
            return
        self.counters.deliveries += 1
        if services.latest is not self:
            services.latest = self
            services.budget.touch(self.storage.cache)
        if self.phase is Phase.NEW:
            self._construct_first()
            if gate.broken is not None:  # where tasks are eager, the constructor has run by now
                self.counters.errors += 1
                self._refuse(invocation, gate.broken.again())
                return
        unanswered = self._open
        if unanswered is None:
            self._open = invocation
        elif isinstance(unanswered, set):
            unanswered.add(invocation)
        else:
            self._open = {unanswered, invocation}
        if gate.enter_nowait(invocation):
            services.start(invocation)
            return
        refusal = self._refusal(invocation)
        if refusal is not None:
            self._close(invocation)
            refusal.object_id = str(self.id)
            self.counters.overloaded += refusal.overloaded
            self._refuse(invocation, refusal)
            return
        invocation.came_s = services.clock.steady()
        gate.queue(invocation)
        if gate.sections and invocation.is_of_object:
            deadlocks.is_kept_out(invocation)

    def give_up(self, invocation: Invocation[Any], error: DurableError) -> None:
        """Answer *invocation*, which could never be served, with *error*; it leaves the line."""
        self.gate.forget(invocation)
        invocation.answer(None, error)

    def invocation_ended(self, invocation: Invocation[Any], error: BaseException | None) -> None:
        """*invocation* has its answer, which is *error* if that is not None."""
        if self._open is invocation:  # as a rule
            self._open = None
        else:
            self._close(invocation)
        if self._open is None:
            self.idle_since_s = self.services.clock.steady()
        if self.services.hooks is not None:
            self.services.hooks.ended(self, invocation, error)

    def _refuse(self, invocation: Invocation[Any], error: DurableError) -> None:
        invocation.fail(error)
        if self.services.hooks is not None:
            self.services.hooks.refused(self, invocation)

    def _close(self, invocation: Invocation[Any]) -> None:
        unanswered = self._open
        if unanswered is invocation:
            self._open = None
        elif isinstance(unanswered, set):
            unanswered.discard(invocation)
            if not unanswered:
                self._open = None

    def _refusal(self, invocation: Invocation[Any]) -> DurableError | None:
        """Why an invocation that would have to wait is not let into the queue."""
        if not invocation.is_refusable:
            return None
        gate, limits = self.gate, self.services.limits
        if gate.queued >= limits.queued_deliveries_max:
            return ObjectOverloaded(TOO_MANY)
        if invocation.payload is not None:
            invocation.size += size_of(invocation.payload)
        # A single call may be as large as it likes, whether or not the object is at rest.
        if gate.queued_bytes and gate.queued_bytes + invocation.size > limits.queued_bytes_max:
            return ObjectOverloaded(TOO_MUCH)
        oldest = self._oldest_queued()
        if oldest is not None and self._has_waited(oldest, limits.queued_s_max):
            return ObjectOverloaded(TOO_LONG)
        return None

    def _has_waited(self, invocation: Invocation[Any], most_s: float) -> bool:
        """Whether *invocation* has waited longer than *most_s*, while the process could run."""
        waited_s = self.services.clock.steady() - invocation.came_s
        return waited_s > most_s and (
            waited_s - self.services.timers.paused_since(invocation.came_s) > most_s
        )

    def _oldest_queued(self) -> Invocation[Any] | None:
        oldest = self.gate.oldest_new
        return oldest if isinstance(oldest, Invocation) else None
