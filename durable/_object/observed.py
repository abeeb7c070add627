"""Observed objects: what happens to them is told to observers.

A host is observed by changing its class to `ObservedHost`, and back when the last observer leaves:
the two have the same slots. So the path of a call has no place where it asks whether somebody
observes, observing can begin while the program runs, and nobody pays for it but those who do it.

Rule: what is observed behaves as if it were not. What an observer raises is logged, no more.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from attrs import define, field

from durable._gates.delivery import Delivery
from durable._model.clock import Clock
from durable._model.errors import DurableError, ObjectOverloaded
from durable._model.observer import (
    SLOW_TURN_S_MIN,
    AlarmRang,
    DeliveryCame,
    DeliveryEnded,
    ObjectBroken,
    ObjectEvicted,
    ObjectWoken,
    Observer,
    Outcome,
    Overloaded,
    TurnTookLong,
)
from durable._model.observer import Event as Told
from durable._storage.arguments import to_datetime

from .alarms import CANCELLED, AlarmEvent
from .base import HANDLERS
from .events import Event, chain_of
from .host import Host
from .live import Phase

if TYPE_CHECKING:
    from durable._disk.batch import Alarm

log = logging.getLogger("durable")


@define(eq=False, slots=True)
class Course:
    """How far one delivery has come. Times are of the steady clock."""

    number: int
    caller: str | None
    came_s: float
    began_s: float | None = None
    ended_s: float | None = None
    gate_wait_s: float = 0.0
    error: BaseException | None = None


@define(eq=False)
class Observers:
    """Those who observe one runtime, and the deliveries that they have seen come."""

    clock: Clock
    observers: tuple[Observer, ...] = ()
    courses: dict[Event[Any], Course] = field(factory=dict, init=False)
    numbers: count[int] = field(factory=lambda: count(1), init=False)

    def tell(self, event: Told) -> None:
        for observer in self.observers:
            try:
                observer(event)
            except Exception:
                log.exception("the observer %r failed on %s", observer, type(event).__name__)

    def add(self, observer: Observer, hosts: Iterable[Host]) -> None:
        """Tell *observer* what happens from now on; *hosts* are those that live."""
        if not callable(observer):
            raise TypeError(
                f"an observer is a callable that takes one event, not {observer!r}; "
                f"`observer=print` is one"
            )
        self.observers = (*self.observers, observer)
        for host in hosts:
            observe(host)

    def remove(self, observer: Observer, hosts: Iterable[Host]) -> None:
        """Tell *observer* nothing more."""
        self.observers = tuple(other for other in self.observers if other is not observer)
        if not self.observers:
            self.courses.clear()
            for host in hosts:
                host.__class__ = Host
                host.gate.on_wait = None


def observe(host: Host) -> None:
    """From now on tell what happens to *host*."""
    host.__class__ = ObservedHost
    assert isinstance(host, ObservedHost)
    host.gate.on_wait = host.waits


class ObservedHost(Host):
    """A host whose doings are told. It has no state of its own, so that any host can become one."""

    __slots__ = ()

    @property
    def _observers(self) -> Observers:
        return self.services.find(Observers)

    def deliver(self, event: Event[Any]) -> None:
        observers = self._observers
        caller = _caller(event)
        course = Course(next(observers.numbers), caller, observers.clock.steady())
        observers.courses[event] = course
        event.watch(partial(_Watched, self, event, course))
        came = DeliveryCame(
            number=course.number,
            kind=kind_of(event),
            method=event.label,
            caller=caller,
            **self._who(),
        )
        try:
            event.context.run(observers.tell, came)
        except RuntimeError:  # code that runs in this very context has made the delivery
            observers.tell(came)
        super().deliver(event)
        # One that was not let in has its answer already, and never was among the open ones.
        if event.is_done and event in observers.courses:
            self._tell_refused(event)
            self._tell_ended(event, event.error)

    def event_ended(self, event: Event[Any], error: BaseException | None) -> None:
        super().event_ended(event, error)
        self._tell_ended(event, error)

    def break_(self, reason: DurableError) -> None:
        if self.gate.broken is not None:
            return
        events = list(self.open)
        super().break_(reason)
        if self.services.is_open:
            self._observers.tell(
                ObjectBroken(error=type(reason).__name__, reason=str(reason), **self._who())
            )
        for event in events:
            self._tell_ended(event, event.error)

    def evict(self) -> None:
        super().evict()
        self._observers.tell(ObjectEvicted(**self._who()))

    def _construct(self) -> None:
        clock = self._observers.clock
        began_s = clock.steady()
        super()._construct()
        if self.phase is not Phase.BROKEN:
            took_s = clock.steady() - began_s
            self._observers.tell(ObjectWoken(duration_s=took_s, **self._who()))

    def waits(self, delivery: Delivery[Any]) -> Callable[[], None]:
        """A task of *delivery* waits for the gate; answers what to call when it goes on."""
        clock = self._observers.clock
        began_s = clock.steady()
        course = self._course(delivery)

        def goes_on() -> None:
            if course is not None:
                course.gate_wait_s += clock.steady() - began_s

        return goes_on

    def rings(self, alarm: Alarm) -> None:
        """The handler of *alarm* begins."""
        clock = self._observers.clock
        late_s = clock.now() - alarm.due_us / 1_000_000
        self._observers.tell(
            AlarmRang(
                scheduled_time=to_datetime(alarm.scheduled_us),
                late_s=max(0.0, late_s),
                retry_count=alarm.retry_count,
                **self._who(),
            )
        )

    def took(self, event: Event[Any], duration_s: float) -> None:
        """Code of *event* had the loop to itself for so long."""
        if duration_s >= SLOW_TURN_S_MIN:
            self._observers.tell(
                TurnTookLong(method=event.label, duration_s=duration_s, **self._who())
            )

    def _course(self, delivery: Delivery[Any]) -> Course | None:
        """That of the event which *delivery*, a critical section perhaps, belongs to."""
        for each in chain_of(delivery):
            if isinstance(each, Event):
                return self._observers.courses.get(each)
        return None

    def _tell_refused(self, event: Event[Any]) -> None:
        if isinstance(event.error, ObjectOverloaded):
            self._observers.tell(
                Overloaded(
                    method=event.label,
                    queued=self.gate.queued,
                    reason=str(event.error),
                    **self._who(),
                )
            )

    def _tell_ended(self, event: Event[Any], error: BaseException | None) -> None:
        observers = self._observers
        course = observers.courses.pop(event, None)
        if course is None:
            return  # it came before anybody observed, or was told of already
        now_s = observers.clock.steady()
        began_s = now_s if course.began_s is None else course.began_s
        ended_s = now_s if course.ended_s is None else course.ended_s
        error = error or course.error
        observers.tell(
            DeliveryEnded(
                number=course.number,
                kind=kind_of(event),
                method=event.label,
                caller=course.caller,
                queued_s=began_s - course.came_s,
                gate_wait_s=course.gate_wait_s,
                duration_s=max(0.0, ended_s - began_s),
                commit_wait_s=max(0.0, now_s - ended_s),
                outcome=_outcome(course, error),
                error=None if error is None else f"{type(error).__name__}: {error}",
                **self._who(),
            )
        )

    def _who(self) -> dict[str, Any]:
        return {
            "class_name": self.cls.__name__,
            "object_id": str(self.id),
            "name": self.place.name if self.id.name is None else self.id.name,
        }


def kind_of(event: Event[Any]) -> str:
    """What sort of delivery *event* is."""
    return event.label if event.label in HANDLERS else "rpc"


def _caller(event: Event[Any]) -> str | None:
    for delivery in chain_of(event.caller):
        if isinstance(delivery, Event):
            return str(delivery.host.id)
    return None


def _outcome(course: Course, error: BaseException | None) -> Outcome:
    if error is None:
        return Outcome.OK
    if course.error is not None and course.error is error:
        return Outcome.ERROR
    if isinstance(error, DurableError):
        if error.reset:
            return Outcome.RESET
        if course.began_s is None:
            return Outcome.OVERLOADED if error.overloaded else Outcome.REFUSED
    return Outcome.ERROR


class _Watched:
    """The body of a delivery, which says when it begins."""

    __slots__ = ("_body", "_course", "_event", "_host")

    def __init__(
        self, host: ObservedHost, event: Event[Any], course: Course, body: Callable[[], Any]
    ) -> None:
        self._host = host
        self._event = event
        self._course = course
        self._body = body

    def __call__(self) -> Any:
        course, clock = self._course, self._host.services.clock
        course.began_s = began_s = clock.steady()
        try:
            value = self._body()
        except BaseException as error:
            course.error = error
            raise
        finally:
            course.ended_s = clock.steady()
            self._took(course.ended_s - began_s)
        if isinstance(self._event, AlarmEvent):
            if value is CANCELLED:
                return value
            self._rings(self._event.alarm)
        if not hasattr(value, "__await__"):
            return value
        course.ended_s = None
        coro = value if type(value) is CoroutineType else _await(value)
        return _TimedSteps(coro, course, clock.steady, self._took)

    def _took(self, duration_s: float) -> None:
        if duration_s >= SLOW_TURN_S_MIN and isinstance(self._host, ObservedHost):
            self._host.took(self._event, duration_s)

    def _rings(self, alarm: Alarm) -> None:
        if isinstance(self._host, ObservedHost):
            self._host.rings(alarm)


async def _await(value: Any) -> Any:
    return await value


class _TimedSteps:
    """An author's coroutine, whose steps are timed.

    `cr_await` shows it to whoever follows the chain of what waits for what, as if it stood there
    itself.
    """

    __slots__ = ("_course", "_steady", "_took", "cr_await")

    def __init__(
        self,
        coro: Any,
        course: Course,
        steady: Callable[[], float],
        took: Callable[[float], None],
    ) -> None:
        self.cr_await = coro
        self._course = course
        self._steady = steady
        self._took = took

    def __await__(self) -> _TimedSteps:
        return self

    def __iter__(self) -> _TimedSteps:
        return self

    def __next__(self) -> Any:
        return self._step(self.cr_await.send, None)

    def send(self, value: Any) -> Any:
        return self._step(self.cr_await.send, value)

    def throw(self, *error: Any) -> Any:
        return self._step(self.cr_await.throw, *error)

    def close(self) -> None:
        self.cr_await.close()

    def _step(self, step: Callable[..., Any], *args: Any) -> Any:
        began_s = self._steady()
        try:
            trap = step(*args)
        except BaseException as error:
            self._course.ended_s = self._steady()
            if not isinstance(error, StopIteration):
                self._course.error = error
            self._took(self._course.ended_s - began_s)
            raise
        took_s = self._steady() - began_s
        if took_s >= SLOW_TURN_S_MIN:
            self._took(took_s)
        return trap
