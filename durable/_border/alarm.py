"""One ringing: the invocation of an object's alarm, and what its outcome makes of that.

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
from typing import Any, ClassVar

from attrs import frozen

from durable._engine.batch import Alarm
from durable._gates.delivery import Delivery
from durable._model.errors import ObjectReset
from durable._model.log import log
from durable._object.activation import Activation
from durable._object.invocation import Invocation
from durable._storage.arguments import to_datetime
from durable._storage.object_storage import ObjectStorage

BACKOFF_START_S = 2
BACKOFF_MAX = 9  # doublings
JITTER = 0.25
HANDLERS_REMEMBERED = 256
TOOK_TOO_LONG = "Alarm exceeded its allowed execution time"


@frozen
class AlarmInfo:
    """The argument of `alarm(self, info)` and `timer(self, name, payload, info)`: the time that was
    set, and how many runs for it have failed."""

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


class Ringing(Invocation[Any]):
    """The delivery of an alarm or a timer."""

    __slots__ = ("alarm", "failure", "is_forced", "is_given_up", "is_own_fault")

    # What its handler is called.
    handler: ClassVar[str]
    # The name of the timer; None for an object's alarm.
    name: str | None = None
    activation: Activation

    def __init__(
        self, activation: Activation, alarm: Alarm, context: Context, *, is_forced: bool
    ) -> None:
        super().__init__(activation, self._ring, context, self.handler, None)
        self.alarm = alarm
        # What its handler raised.
        self.failure: BaseException | None = None
        # By the test kit or an operator: whatever time it is.
        self.is_forced = is_forced
        # By ctx.abort(retry_alarm=False).
        self.is_given_up = False
        # The object broke through what the handler did, which counts as its failure.
        self.is_own_fault = False

    def _ring(self) -> Any:
        """Run the handler, if what rings is still the object's and its time has come."""
        raise NotImplementedError

    def amend(self, storage: ObjectStorage) -> None:
        """Store what follows from its failure, after which the object was reset."""
        raise NotImplementedError

    def _settle(self, error: BaseException | None) -> None:
        """Store what follows from how the handler has ended, in the turn that ends."""
        raise NotImplementedError

    def is_early(self, due_us: int) -> bool:
        return due_us > self.activation.services.clock.now() * 1_000_000 and not self.is_forced

    def watch_time(self) -> None:
        """The handler starts."""
        self.activation.services.alarm_watch.add(self)

    @property
    def info(self) -> AlarmInfo:
        return AlarmInfo(to_datetime(self.alarm.scheduled_us), self.alarm.retry_count)

    def blame(self, *, gives_up: bool = False) -> None:
        self.is_own_fault = True
        self.is_given_up = gives_up

    def reached_limit(self) -> None:
        """The handler has had all the time that it may take."""
        self.is_own_fault = True
        self.activation.break_(ObjectReset(TOOK_TOO_LONG, overloaded=True))

    def end(self, value: Any, error: BaseException | None) -> Delivery[Any] | None:
        self.activation.services.alarm_watch.discard(self)
        self.failure = error
        if self.activation.gate.broken is None and value is not CANCELLED:
            self._settle(error)
        return super().end(None, None)

    def fail(self, error: BaseException) -> None:
        self.activation.services.alarm_watch.discard(self)  # its object broke
        super().fail(error)

    @property
    def is_awaited(self) -> bool:
        return False  # what its handler raises is logged

    def count(self, error: BaseException | None) -> None:
        counters = self.activation.counters
        counters.alarms += 1
        counters.errors += error is not None

    def log_failure(self, what: str, error: BaseException, *, is_retried: bool) -> None:
        log.error(
            "%s of %s failed; %s",
            what,
            self.activation.label,
            "it is retried" if is_retried else "it is not retried",
            exc_info=error,
            extra=self.activation.marks,
        )

    def retry(self) -> Alarm | None:
        """The alarm to store after a failure of the object's own; None if this was the last."""
        limits, clock = self.activation.services.limits, self.activation.services.clock
        if self.is_given_up or self.alarm.retry_count >= limits.alarm_retries_max:
            return None
        due_s = clock.now() + backoff_s(self.alarm.backoff)
        return self.alarm._replace(
            due_us=int(due_s * 1_000_000),
            retry_count=self.alarm.retry_count + 1,
            backoff=self.alarm.backoff + 1,
        )


class AlarmInvocation(Ringing):
    """The delivery of an object's alarm."""

    __slots__ = ()

    handler = "alarm"

    def _ring(self) -> Any:
        activation = self.activation
        stored = activation.storage.alarm
        if stored is None or self.is_early(stored.due_us):
            return CANCELLED
        self.alarm = stored
        activation.storage.begin_alarm()
        self.watch_time()
        handler = activation.instance.alarm
        return handler(self.info) if takes_one_more(handler, 0) else handler()

    def _settle(self, error: BaseException | None) -> None:
        """Delete the alarm, or set it again, unless the handler has set it."""
        self.count(error)
        storage = self.activation.storage
        if error is None:
            storage.end_alarm(success=True)
            return
        retry = self.retry()
        still_ours = storage.end_alarm(success=retry is None, retry=retry)
        self.log_failure("alarm()", error, is_retried=retry is not None and still_ours)

    def amend(self, storage: ObjectStorage) -> None:
        storage.amend_alarm(self.alarm, self.retry())


def takes_one_more(handler: Callable[..., Any], count: int) -> bool:
    """Whether *handler* takes an argument after *count* others."""
    function = getattr(handler, "__func__", None)
    if function is None:
        return _accepts(handler, count + 1)
    # By what the class has, not by what the object has: looking is as dear as ringing.
    return _accepts_as_method(function, count + 2)


@lru_cache(HANDLERS_REMEMBERED)
def _accepts_as_method(function: Callable[..., Any], count: int) -> bool:
    return _accepts(function, count)


def _accepts(function: Callable[..., Any], count: int) -> bool:
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    return True
