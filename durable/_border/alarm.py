"""One ringing of an object's alarm: the invocation, and what its outcome makes of the alarm.

Retries as in Cloudflare's runtime: 2, 4, 8 ... s after a failure, plus up to a quarter, and at most
`Limits.alarm_retries_max` of them; a failure that is none of the object's code is not counted. The
count is stored with the alarm, in the same batch as what the handler wrote.
"""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable
from contextvars import Context
from datetime import datetime
from functools import lru_cache
from typing import Any

from attrs import evolve, frozen

from durable._engine.batch import Alarm
from durable._gates.delivery import Delivery
from durable._loop.timers import Timer
from durable._model.errors import ObjectReset
from durable._model.log import log
from durable._object.activation import Activation
from durable._object.invocation import Invocation
from durable._storage.arguments import to_datetime

BACKOFF_START_S = 2
BACKOFF_MAX = 9  # doublings
JITTER = 0.25
HANDLERS_REMEMBERED = 256
TOOK_TOO_LONG = "Alarm exceeded its allowed execution time"


@frozen
class AlarmInfo:
    """What `alarm(self, info)` is told: the time the alarm was set for, and how many of its runs
    have failed."""

    scheduled_time: datetime
    retry_count: int

    @property
    def is_retry(self) -> bool:
        return self.retry_count > 0


CANCELLED = object()  # the alarm was another one by the time it was to ring


def backoff_s(doublings: int) -> float:
    """How long after a failure the alarm rings again."""
    delay_s = BACKOFF_START_S << min(doublings, BACKOFF_MAX)
    return delay_s + random.randint(0, int(delay_s * JITTER * 1000)) / 1000


class AlarmInvocation(Invocation[Any]):
    """The delivery of one alarm."""

    __slots__ = ("alarm", "is_forced", "is_given_up", "is_own_fault", "timer")

    activation: Activation

    def __init__(self, activation: Activation, alarm: Alarm, context: Context) -> None:
        super().__init__(activation, self._ring, context, "alarm", None)
        self.alarm = alarm
        self.timer: Timer | None = None
        # By the test kit: whatever time it is.
        self.is_forced = False
        # By ctx.abort(retry_alarm=False).
        self.is_given_up = False
        # The object broke through what the handler did, which counts as its failure.
        self.is_own_fault = False

    def _ring(self) -> Any:
        """Run the handler, if the alarm is still the object's and its time has come."""
        activation = self.activation
        services = activation.services
        stored = activation.storage.alarm
        is_early = stored is not None and stored.due_us > services.clock.now() * 1_000_000
        if stored is None or (is_early and not self.is_forced):
            return CANCELLED
        self.alarm = stored
        activation.storage.begin_alarm()
        self.timer = services.timers.call_later(services.limits.alarm_s_max, self._took_too_long)
        info = AlarmInfo(to_datetime(stored.scheduled_us), stored.retry_count)
        handler = activation.instance.alarm
        return handler(info) if _takes_argument(handler) else handler()

    def blame(self, *, gives_up: bool = False) -> None:
        self.is_own_fault = True
        self.is_given_up = gives_up

    def _took_too_long(self) -> None:
        self.is_own_fault = True
        self.activation.break_(ObjectReset(TOOK_TOO_LONG, overloaded=True))

    def end(self, value: Any, error: BaseException | None) -> Delivery[Any] | None:
        if self.timer is not None:
            self.timer.cancel()
        if self.activation.gate.broken is None and value is not CANCELLED:
            self._settle(error)
        return super().end(None, None)

    @property
    def is_awaited(self) -> bool:
        return False  # what its handler raises is logged

    def _settle(self, error: BaseException | None) -> None:
        """Delete the alarm, or set it again, in the turn that ends; unless the handler set it."""
        counters = self.activation.counters
        counters.alarms += 1
        counters.errors += error is not None
        storage = self.activation.storage
        if error is None:
            storage.end_alarm(success=True)
            return
        retry = self.retry()
        still_ours = storage.end_alarm(success=retry is None, retry=retry)
        what = "it is not retried" if retry is None or not still_ours else "it is retried"
        log.error(
            "alarm() of %s failed; %s",
            self.activation.label,
            what,
            exc_info=error,
            extra=self.activation.marks,
        )

    def retry(self) -> Alarm | None:
        """The alarm to store after a failure of the object's own; None if this was the last."""
        limits, clock = self.activation.services.limits, self.activation.services.clock
        if self.is_given_up or self.alarm.retry_count >= limits.alarm_retries_max:
            return None
        due_s = clock.now() + backoff_s(self.alarm.backoff)
        return evolve(
            self.alarm,
            due_us=int(due_s * 1_000_000),
            retry_count=self.alarm.retry_count + 1,
            backoff=self.alarm.backoff + 1,
        )


def _takes_argument(handler: Callable[..., Any]) -> bool:
    function = getattr(handler, "__func__", None)
    if function is None:
        return _accepts(handler, 1)
    # By what the class has, not by what the object has: looking is as dear as ringing.
    return _accepts_as_method(function)


@lru_cache(HANDLERS_REMEMBERED)
def _accepts_as_method(function: Callable[..., Any]) -> bool:
    return _accepts(function, 2)


def _accepts(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    return True
