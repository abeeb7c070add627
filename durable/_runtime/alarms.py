"""The alarm scheduler: rings the alarms of all objects of the store that are due, oldest first.

The index on the disk is the schedule; in memory are only the alarms that ring at this moment. So a
million pending alarms cost nothing, and one that came due while the program was down rings when its
class is registered. An alarm leaves the index in the batch that its handler has written, which
makes it ring at least once, and at most once at a time.

For an object with timers the index has the first one that has not been settled. Its others are
read from the object, whenever the index is read while that one is due.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from functools import partial

from attrs import define, field

from durable._border.alarm import AlarmInvocation, Ringing, backoff_s
from durable._border.timer import TimerInvocation
from durable._engine.batch import Alarm, Batch, DueAlarm, Origin
from durable._engine.engine import Engine
from durable._gates.delivery import CURRENT
from durable._gates.futures import wait_done, when_done
from durable._loop.timers import Timer
from durable._model.errors import DurableError
from durable._model.log import log
from durable._object.activation import Activation
from durable._object.services import Services

from .class_table import ClassTable

# How many ring at a time: enough to share commits, few enough for other calls to be served.
RINGING_MAX = 256
# Due alarms are read from the index in steps of this many.
READ_AT_ONCE = 256
# An alarm that its object has changed is looked at again after this long if nothing was reported of
# the batch: the change may not come about.
LOOK_AGAIN_S = 30.0
# The pause after the index could not be read.
READ_AGAIN_S = 1.0


@define(eq=False)
class _Expecting:
    """The origin of a batch that changes an alarm: notifies the batch's own, then the scheduler."""

    origin: Origin
    alarms: Alarms

    def batch_durable(self, batch: Batch) -> None:
        self.origin.batch_durable(batch)
        if isinstance(batch.alarm, Alarm):
            self.alarms.expect(batch.alarm.due_us)

    def batch_failed(self, batch: Batch, error: DurableError) -> None:
        self.origin.batch_failed(batch, error)
        # The disk has what it had; or it has the change too, and could not confirm it.
        self.alarms.ask()


Key = tuple[int, bytes, str | None]
"""Class number and base of an object, and the name of a timer; None: its alarm."""


@define(eq=False)
class Alarms:
    """Reads the index when something may be due. Nothing here suspends."""

    services: Services
    engine: Engine
    classes: ClassTable
    _ringing: dict[Key, Ringing] = field(factory=dict, init=False)
    # Failures that are not the object's fault: how many in a row, and when to try again.
    _uncounted: dict[Key, tuple[int, float]] = field(factory=dict, init=False)
    _forget_clock: Callable[[], None] | None = field(default=None, init=False)
    _timer: Timer | None = field(default=None, init=False)
    _looks_at_s: float = field(default=0.0, init=False)
    _is_asked: bool = field(default=False, init=False)
    _is_closed: bool = field(default=False, init=False)
    # The context of deliveries that no code of an object has made; copied for each.
    _context: Context = field(init=False)
    # The next due times of timers of objects whose first one rings.
    _later_us: list[int] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self._context = _apart()
        # An alarm is due by the wall clock, which may be set.
        self._forget_clock = self.services.timers.when_set(self.ask)

    def close(self) -> None:
        """Ring no more alarms."""
        self._is_closed = True
        if self._forget_clock is not None:
            self._forget_clock()
            self._forget_clock = None
        if self._timer is not None:
            self._timer.cancel()

    def submitting(self, batch: Batch) -> None:
        """A batch that changes an alarm is submitted: look in time."""
        batch.origin = _Expecting(batch.origin, self)

    def ask(self) -> None:
        """Read the index in the next round of the loop."""
        if not self._is_asked and not self._is_closed:
            self._is_asked = True
            self.services.loop.call_soon(self._look)

    def expect(self, due_us: int) -> None:
        if self._delay_s(due_us) <= self._looks_at_s - self.services.clock.steady():
            if self._delay_s(due_us) <= 0:
                self.ask()
            else:
                self._look_at(due_us)

    def _delay_s(self, due_us: int) -> float:
        return due_us / 1_000_000 - self.services.clock.now()

    def _look_at(self, due_us: int | None) -> None:
        """Look again when *due_us* comes."""
        delay_s = math.inf if due_us is None else max(self._delay_s(due_us), 0.0)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._looks_at_s = self.services.clock.steady() + delay_s
        if not math.isinf(delay_s):
            self._timer = self.services.timers.call_later(delay_s, self._look)

    def _look(self) -> None:
        """Ring what is due, and find out when to look again."""
        self._is_asked = False
        if self._is_closed or not self.services.is_open:
            return
        try:
            next_us = self._ring_due()
        except DurableError as error:  # the disk fails: no object is to blame, and alarms go on
            log.error("the alarms cannot be read; trying again in %g s: %s", READ_AGAIN_S, error)
            next_us = int((self.services.clock.now() + READ_AGAIN_S) * 1_000_000)
        except Exception:  # a fault of this library
            log.exception("looking at the alarms failed; trying again in %g s", READ_AGAIN_S)
            next_us = int((self.services.clock.now() + READ_AGAIN_S) * 1_000_000)
        self._look_at(next_us)

    def _ring_due(self) -> int | None:
        """Ring what is due, as far as there is room; returns when to look again."""
        now_us = int(self.services.clock.now() * 1_000_000)
        next_us: int | None = None
        self._later_us.clear()
        steady_s = self.services.clock.steady()
        # Those that are due by now are found below, unless their objects have no alarm any more.
        again_s = [when_s for _, when_s in self._uncounted.values() if when_s > steady_s]
        # When as many ring as may, the next look comes when one of them ends.
        ringing = self._ringing
        for due in self._in_order() if len(ringing) < RINGING_MAX else ():
            if due.due_us > now_us:
                next_us = due.due_us
                break
            # Those that ring are the first in the index, until what they have written is durable.
            if (due.class_number, due.base, None) in ringing:
                continue
            if not self._try_to_ring(due):
                # The object has changed it, which may not come about if the object breaks.
                again_s.append(steady_s + LOOK_AGAIN_S)
            if len(ringing) >= RINGING_MAX:
                break
        if self._later_us:
            soonest_us = min(self._later_us)
            next_us = soonest_us if next_us is None else min(next_us, soonest_us)
        if again_s:
            delay_s = min(again_s) - steady_s
            soonest_us = now_us + int(max(delay_s, 0.001) * 1_000_000)
            next_us = soonest_us if next_us is None else min(next_us, soonest_us)
        return next_us

    def _in_order(self) -> Iterator[DueAlarm]:
        """The alarms of the store that do not ring, and whose class has code in this program."""
        after: DueAlarm | None = None
        while found := self.engine.alarms(after=after, count_max=READ_AT_ONCE):
            for due in found:
                after = due
                if due.class_number in self.classes:
                    yield due

    def _try_to_ring(self, due: DueAlarm) -> bool:
        """Ring an alarm; a failure with one object does not affect other objects' alarms."""
        try:
            return self._ring(due)
        except Exception:
            log.exception("an alarm of an object cannot be run; it is tried again")
            self._put_off((due.class_number, due.base, None))
            return True

    def _ring(self, due: DueAlarm) -> bool:
        """Ring an alarm that is due. False: its object has no alarm by now, or a later one."""
        key = (due.class_number, due.base, None)
        if not self._may_ring(key):
            return True
        activation = self.classes[due.class_number].activation_of_base(due.base)
        facts = activation.facts
        if facts.has_timer_handler:
            return self._ring_timers(due, activation)
        alarm = activation.storage.alarm
        if alarm is None or self._delay_s(alarm.due_us) > 0:
            return False  # it was just deleted or postponed; the index will show that
        if facts.has_alarm_handler:
            context = self._context.copy()
            self._start(key, AlarmInvocation(activation, alarm, context, is_forced=False))
        else:
            self._drop(activation, alarm)
        return True

    def _may_ring(self, key: Key) -> bool:
        """Whether it does not ring already, and was not postponed."""
        if key in self._ringing:
            return False
        put_off = self._uncounted.get(key)
        return put_off is None or put_off[1] <= self.services.clock.steady()

    def _ring_timers(self, due: DueAlarm, activation: Activation) -> bool:
        """Ring the due timers of one object. False as above."""
        if activation.begins_later is not None:
            activation.when_open(self.ask)  # it would read its timers too early
            return True
        table = activation.storage.timer_table
        now_us = int(self.services.clock.now() * 1_000_000)
        are_due = False
        for timer in table.due(now_us):
            are_due = True
            if len(self._ringing) >= RINGING_MAX:
                return True
            key = (due.class_number, due.base, timer.name)
            if self._may_ring(key):
                self._start(key, TimerInvocation(activation, timer.name, self._context.copy()))
        later_us = table.next_us(now_us)
        if later_us is not None:
            self._later_us.append(later_us)
        alarm = activation.storage.alarm
        if not len(table) and alarm is not None:
            self._drop(activation, alarm)
            return True
        return are_due

    def _drop(self, activation: Activation, alarm: Alarm) -> None:
        log.warning(
            "Attempted to run a scheduled alarm without a handler, did you remember to define an "
            "alarm() method? The alarm of %s was deleted",
            activation.label,
        )
        activation.storage.amend_alarm(alarm, None)

    async def ring_now(self, activation: Activation, timer: str | None = None) -> Ringing | None:
        """Ring the alarm of *activation*, or its timer of this name, whatever its time; returns the
        event once it has ended, None if there is nothing to ring."""
        handle, storage = activation.handle, activation.storage
        key = (handle.class_number, handle.base, timer)
        event = self._ringing.get(key)
        if event is None and timer is not None:
            if storage.timer_table.stored(timer) is None:
                return None
            event = TimerInvocation(activation, timer, _apart(), is_forced=True)
            self._start(key, event)
        elif event is None:
            if storage.alarm is None:
                return None
            event = AlarmInvocation(activation, storage.alarm, _apart(), is_forced=True)
            self._start(key, event)
        await wait_done(event)
        return event

    def _start(self, key: Key, event: Ringing) -> None:
        self._ringing[key] = event
        when_done(event, partial(self._ended, key, event))
        event.activation.deliver(event)

    def _ended(self, key: Key, event: Ringing) -> None:
        """The event has ended, and its outcome is stored; or its object broke."""
        del self._ringing[key]
        if event.error is None:
            self._uncounted.pop(key, None)
        elif not self._is_closed and self.services.is_open:
            try:
                self._broke(key, event)
            except Exception:
                log.exception("the failure of an alarm could not be stored; it is run again")
                self._put_off(key)
        self.ask()

    def _broke(self, key: Key, event: Ringing) -> None:
        if event.is_own_fault:
            # The count is stored by a new incarnation, since the old one writes no more.
            self._uncounted.pop(key, None)
            activation = self.classes[key[0]].activation_of_base(key[1])
            activation.when_open(lambda: event.amend(activation.storage))
            return
        self._put_off(key)

    def _put_off(self, key: Key) -> None:
        """The alarm failed without a fault of its object: postpone it."""
        failures = self._uncounted.get(key, (0, 0.0))[0]
        not_before_s = self.services.clock.steady() + backoff_s(failures)
        self._uncounted[key] = (failures + 1, not_before_s)


def _apart() -> Context:
    """The context of a delivery that no code of an object has made."""
    context = copy_context()
    context.run(CURRENT.set, None)
    return context
