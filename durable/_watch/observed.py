"""Observers: told what happens to objects, by the hooks of their hosts.

Rule: what is observed behaves as if it were not. What an observer raises is logged, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from attrs import define, field

from durable._border.alarm import CANCELLED, AlarmEvent
from durable._border.durable_object import HANDLERS
from durable._gates.delivery import Delivery
from durable._model.clock import Clock
from durable._model.errors import DurableError, ObjectOverloaded, text_of
from durable._model.log import log
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
from durable._object.events import Event, event_of
from durable._object.host import Host
from durable._storage.arguments import to_datetime

if TYPE_CHECKING:
    from durable._engine.batch import Alarm


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
    # Puts the hooks of the hosts in, and takes them out.
    install: Callable[[Observers | None], None] = field(default=lambda hooks: None)
    observers: tuple[Observer, ...] = ()
    courses: dict[Event[Any], Course] = field(factory=dict, init=False)
    numbers: count[int] = field(factory=lambda: count(1), init=False)

    def tell(self, event: Told) -> None:
        for observer in self.observers:
            try:
                observer(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:
                log.exception("the observer %r failed on %s", observer, type(event).__name__)

    def add(self, observer: Observer, hosts: Iterable[Host]) -> None:
        """Tell *observer* what happens from now on; *hosts* are those that live."""
        if not callable(observer):
            raise TypeError(
                f"an observer is a callable that takes one event, not {observer!r}; "
                f"`observer=print` is one"
            )
        self.observers = (*self.observers, observer)
        self.install(self)
        for host in hosts:
            self.watch(host)

    def remove(self, observer: Observer, hosts: Iterable[Host]) -> None:
        """Tell *observer* nothing more."""
        self.observers = tuple(other for other in self.observers if other is not observer)
        if not self.observers:
            self.courses.clear()
            self.install(None)
            for host in hosts:
                host.gate.on_wait = None

    def watch(self, host: Host) -> None:
        """Be told of what waits for the gate of *host*, too."""
        host.gate.on_wait = partial(self.waits, host)

    # Hooks

    def came(self, host: Host, event: Event[Any]) -> None:
        caller = _caller(event)
        course = Course(next(self.numbers), caller, self.clock.steady())
        self.courses[event] = course
        event.watch(partial(_Watched, self, host, event, course))
        came = DeliveryCame(
            number=course.number,
            kind=kind_of(event),
            method=event.label,
            caller=caller,
            **_who(host),
        )
        try:
            event.context.run(self.tell, came)
        except RuntimeError:  # code that runs in this very context has made the delivery
            self.tell(came)

    def refused(self, host: Host, event: Event[Any]) -> None:
        if event not in self.courses:
            return
        if isinstance(event.error, ObjectOverloaded):
            self.tell(
                Overloaded(
                    method=event.label,
                    queued=host.gate.queued,
                    reason=str(event.error),
                    **_who(host),
                )
            )
        self.ended(host, event, event.error)

    def woken(self, host: Host, duration_s: float) -> None:
        self.tell(ObjectWoken(duration_s=duration_s, **_who(host)))

    def evicted(self, host: Host) -> None:
        self.tell(ObjectEvicted(**_who(host)))

    def broke(self, host: Host, reason: DurableError, events: list[Event[Any]]) -> None:
        if host.services.is_open:
            self.tell(
                ObjectBroken(error=type(reason).__name__, reason=text_of(reason), **_who(host))
            )
        for event in events:
            self.ended(host, event, event.error)

    def waits(self, host: Host, delivery: Delivery[Any]) -> Callable[[], None]:
        """A task of *delivery* waits for the gate; answers what to call when it goes on."""
        began_s = self.clock.steady()
        course = self._course(delivery)

        def goes_on() -> None:
            if course is not None:
                course.gate_wait_s += self.clock.steady() - began_s

        return goes_on

    def rings(self, host: Host, alarm: Alarm) -> None:
        """The handler of *alarm* begins."""
        late_s = self.clock.now() - alarm.due_us / 1_000_000
        self.tell(
            AlarmRang(
                scheduled_time=to_datetime(alarm.scheduled_us),
                late_s=max(0.0, late_s),
                retry_count=alarm.retry_count,
                **_who(host),
            )
        )

    def took(self, host: Host, event: Event[Any], duration_s: float) -> None:
        """Code of *event* had the loop to itself for so long."""
        if duration_s >= SLOW_TURN_S_MIN and self.observers:
            self.tell(TurnTookLong(method=event.label, duration_s=duration_s, **_who(host)))

    def _course(self, delivery: Delivery[Any]) -> Course | None:
        """That of the event which *delivery*, a critical section perhaps, belongs to."""
        event = event_of(delivery)
        return None if event is None else self.courses.get(event)

    def ended(self, host: Host, event: Event[Any], error: BaseException | None) -> None:
        course = self.courses.pop(event, None)
        if course is None:
            return  # it came before anybody observed, or was told of already
        now_s = self.clock.steady()
        began_s = now_s if course.began_s is None else course.began_s
        ended_s = now_s if course.ended_s is None else course.ended_s
        if error is None:
            error = course.error
        self.tell(
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
                error=None if error is None else f"{type(error).__name__}: {text_of(error)}",
                **_who(host),
            )
        )


def _who(host: Host) -> dict[str, Any]:
    return {
        "class_name": host.cls.__name__,
        "object_id": str(host.id),
        "name": host.place.name if host.id.name is None else host.id.name,
    }


def kind_of(event: Event[Any]) -> str:
    """What sort of delivery *event* is."""
    return event.label if event.label in HANDLERS else "rpc"


def _caller(event: Event[Any]) -> str | None:
    caller = event_of(event.caller)
    return None if caller is None else str(caller.host.id)


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

    __slots__ = ("_body", "_course", "_event", "_host", "_observers")

    def __init__(
        self,
        observers: Observers,
        host: Host,
        event: Event[Any],
        course: Course,
        body: Callable[[], Any],
    ) -> None:
        self._observers = observers
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
        if duration_s >= SLOW_TURN_S_MIN:
            self._observers.took(self._host, self._event, duration_s)

    def _rings(self, alarm: Alarm) -> None:
        if self._observers.observers:
            self._observers.rings(self._host, alarm)


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
