"""One ringing of a timer: the invocation, and what its outcome makes of the timer.

As of an alarm; besides, a timer with a schedule is set for its next time: the first one after the
handler began, so that what falls due while it runs is made up for by one more run.
"""

from __future__ import annotations

from contextvars import Context
from typing import Any

from attrs import evolve

from durable._engine.batch import Alarm
from durable._engine.stored_timer import StoredTimer
from durable._object.activation import Activation
from durable._storage.object_storage import ObjectStorage
from durable._storage.schedules import next_us

from .alarm import BACKOFF_MAX, CANCELLED, Ringing, backoff_s, takes_one_more


class TimerInvocation(Ringing):
    """The delivery of one timer."""

    __slots__ = ("has_begun", "name", "next_us", "stored")

    handler = "timer"
    name: str

    def __init__(
        self,
        activation: Activation,
        name: str,
        context: Context,
        *,
        is_forced: bool = False,
    ) -> None:
        super().__init__(activation, Alarm(0, 0), context, is_forced=is_forced)
        self.name = name
        self.stored: StoredTimer | None = None
        # When it rings after this; None before the handler has begun, too.
        self.next_us: int | None = None
        self.has_begun = False

    def _ring(self) -> Any:
        activation = self.activation
        storage = activation.storage
        stored = storage.timer_table.stored(self.name)
        if stored is None or self.is_early(stored.due_us):
            return CANCELLED
        self.stored = stored
        self.alarm = Alarm(stored.due_us, stored.scheduled_us, stored.retry_count, stored.backoff)
        now_us = int(activation.services.clock.now() * 1_000_000)
        # Before the handler: what it raises, if the machine has lost cronsim, is a failure as well.
        storage.timer_table.begin(self.name, None)
        self.next_us = next_us(stored.schedule, stored.scheduled_us, max(now_us, stored.due_us))
        storage.timer_table.begin(self.name, self.next_us)
        self.has_begun = True
        self.watch_time()
        payload = storage.decode(stored.payload)
        handler = activation.instance.timer
        if takes_one_more(handler, 2):
            return handler(self.name, payload, self.info)
        return handler(self.name, payload)

    def _settle(self, error: BaseException | None) -> None:
        """Set the timer for its next time or delete it, or set it again; unless the handler has."""
        self.count(error)
        if error is None:
            self.activation.storage.timer_table.end(self.name, self.next_us, None)
            return
        retry = self._retried()
        still_ours = self.activation.storage.timer_table.end(self.name, self.next_us, retry)
        what = f"timer({self.name!r})"
        self.log_failure(what, error, is_retried=retry is not None and still_ours)

    def amend(self, storage: ObjectStorage) -> None:
        stored = self.stored
        if stored is None:
            return  # it has not begun
        after = self._retried()
        if after is None and self.next_us is not None:
            after = evolve(
                stored, due_us=self.next_us, scheduled_us=self.next_us, retry_count=0, backoff=0
            )
        storage.timer_table.amend(stored, after)

    def _retried(self) -> StoredTimer | None:
        """The timer as it is to be tried again; None if this was the last time."""
        stored = self.stored
        assert stored is not None
        retry = self.retry()
        if retry is not None:
            return evolve(
                stored, due_us=retry.due_us, retry_count=retry.retry_count, backoff=retry.backoff
            )
        if not self.has_begun:
            # Its next time is not known, since the machine has lost its time zones or cronsim.
            due_us = int((self.activation.services.clock.now() + backoff_s(BACKOFF_MAX)) * 1e6)
            return evolve(stored, due_us=due_us)
        return None
