"""Observers: called with what happens to objects, by the hooks of their activations.

Rule: what is observed behaves as if it were not. What an observer raises is logged, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from types import CoroutineType
from typing import TYPE_CHECKING, Any, cast

from attrs import define, field

from durable._border.alarm import CANCELLED, Ringing
from durable._border.durable_object import HANDLERS
from durable._gates.delivery import Delivery
from durable._gates.futures import when_done
from durable._loop.steps import Steps
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
    QueryEnded,
    TurnTookLong,
)
from durable._model.observer import Event as ObservedEvent
from durable._object.activation import Activation
from durable._object.invocation import Invocation, event_of
from durable._storage.arguments import to_datetime
from durable._storage.watched_queries import EndedQuery

if TYPE_CHECKING:
    from durable._engine.batch import Alarm


@define(eq=False, slots=True)
class Timing:
    """How far one delivery has come. Times are of the steady clock."""

    number: int
    caller: str | None
    came_s: float
    began_s: float | None = None
    ended_s: float | None = None
    gate_wait_s: float = 0.0
    error: BaseException | None = None
    # Its end is reported even if there is no observer by then.
    is_handed_on: bool = False


@define(eq=False)
class Observers:
    """The observers of one runtime, and the deliveries that they have seen come."""

    clock: Clock
    # Puts the hooks of the activations in, and takes them out.
    install: Callable[[Observers | None], None] = field(default=lambda hooks: None)
    observers: tuple[Observer, ...] = ()
    timings: dict[Invocation[Any], Timing] = field(factory=dict, init=False)
    numbers: count[int] = field(factory=lambda: count(1), init=False)
    # The observers that have seen enough for a while.
    resting: tuple[Observer, ...] = field(default=(), init=False)
    # The observers that get waits for the gate, too.
    wanting_waits: tuple[Observer, ...] = field(default=(), init=False)

    def notify(self, event: ObservedEvent) -> None:
        for observer in self.observers:
            try:
                observer(event)
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException:
                log.exception("the observer %r failed on %s", observer, type(event).__name__)

    def add(self, observer: Observer, activations: Iterable[Activation] | None) -> None:
        """Call *observer* with each event from now on; *activations* are those that live. Without
        them it gets no waits for the gate, and to begin and to end costs the same however many
        live."""
        if not callable(observer):
            raise TypeError(
                f"an observer is a callable that takes one event, not {observer!r}; "
                f"`observer=print` is one"
            )
        self.observers = (*self.observers, observer)
        self.install(self)
        if activations is not None:
            self.wanting_waits = (*self.wanting_waits, observer)
            for activation in activations:
                self.watch(activation)

    def remove(self, observer: Observer, activations: Iterable[Activation]) -> None:
        """Call *observer* no more."""
        self.observers = _without(observer, self.observers)
        self.resting = _without(observer, self.resting)
        if not self.observers:
            self.timings.clear()
            self.install(None)
        if any(other is observer for other in self.wanting_waits):
            self.wanting_waits = _without(observer, self.wanting_waits)
            if not self.wanting_waits:
                for activation in activations:
                    activation.gate.on_wait = None

    def watch(self, activation: Activation) -> None:
        """Observe what waits for the gate of *activation*, too."""
        if self.wanting_waits:
            activation.gate.on_wait = partial(self.waits, activation)

    @property
    def is_observed(self) -> bool:
        """Whether there is an observer that does not rest."""
        return len(self.resting) < len(self.observers)

    def rest(self, observer: Observer) -> None:
        """*observer* has seen enough for a while. Once all have, no call is observed, and only the
        ends of those that were are reported."""
        self.resting = (*_without(observer, self.resting), observer)
        if self.is_observed:
            return
        self.install(None)
        for event, timing in list(self.timings.items()):
            if not timing.is_handed_on:
                timing.is_handed_on = True
                when_done(event, partial(self._ended_unobserved, event))

    def wake(self, observer: Observer) -> None:
        """*observer* wants events again."""
        self.resting = _without(observer, self.resting)
        self.install(self)

    def _ended_unobserved(self, event: Invocation[Any]) -> None:
        self.ended(cast("Activation", event.activation), event, event.error)

    # Hooks

    def came(self, activation: Activation, event: Invocation[Any]) -> None:
        caller = _caller(event)
        timing = Timing(next(self.numbers), caller, self.clock.steady())
        self.timings[event] = timing
        event.watch(partial(_Watched, self, activation, event, timing))
        came = DeliveryCame(
            number=timing.number,
            kind=kind_of(event),
            method=event.label,
            caller=caller,
            **_who(activation),
        )
        try:
            event.context.run(self.notify, came)
        except RuntimeError:  # code that runs in this very context has made the delivery
            self.notify(came)

    def refused(self, activation: Activation, event: Invocation[Any]) -> None:
        if event not in self.timings:
            return
        if isinstance(event.error, ObjectOverloaded):
            self.notify(
                Overloaded(
                    method=event.label,
                    queued=activation.gate.queued,
                    reason=str(event.error),
                    **_who(activation),
                )
            )
        self.ended(activation, event, event.error)

    def woken(self, activation: Activation, duration_s: float) -> None:
        self.notify(ObjectWoken(duration_s=duration_s, **_who(activation)))

    def queried(self, activation: Activation, query: EndedQuery) -> None:
        error = query.error
        self.notify(
            QueryEnded(
                query=query.shown,
                rows_read=query.rows_read,
                rows_written=query.rows_written,
                duration_s=query.duration_s,
                error=None if error is None else f"{type(error).__name__}: {text_of(error)}",
                **_who(activation),
            )
        )

    def evicted(self, activation: Activation) -> None:
        self.notify(ObjectEvicted(**_who(activation)))

    def broke(
        self, activation: Activation, reason: DurableError, events: list[Invocation[Any]]
    ) -> None:
        if activation.services.is_open:
            self.notify(
                ObjectBroken(
                    error=type(reason).__name__, reason=text_of(reason), **_who(activation)
                )
            )
        for event in events:
            self.ended(activation, event, event.error)

    def waits(self, activation: Activation, delivery: Delivery[Any]) -> Callable[[], None]:
        """A task of *delivery* waits for the gate; returns what to call when it goes on."""
        began_s = self.clock.steady()
        timing = self._course(delivery)

        def goes_on() -> None:
            if timing is not None:
                timing.gate_wait_s += self.clock.steady() - began_s

        return goes_on

    def rings(self, activation: Activation, alarm: Alarm, timer: str | None) -> None:
        """The handler of *alarm* begins; that of the timer of this name if there is one."""
        late_s = self.clock.now() - alarm.due_us / 1_000_000
        self.notify(
            AlarmRang(
                scheduled_time=to_datetime(alarm.scheduled_us),
                late_s=max(0.0, late_s),
                retry_count=alarm.retry_count,
                timer=timer,
                **_who(activation),
            )
        )

    def took(self, activation: Activation, event: Invocation[Any], duration_s: float) -> None:
        """Code of *event* had the loop to itself for so long."""
        if duration_s >= SLOW_TURN_S_MIN and self.observers:
            self.notify(TurnTookLong(method=event.label, duration_s=duration_s, **_who(activation)))

    def _course(self, delivery: Delivery[Any]) -> Timing | None:
        """That of the event which *delivery*, a critical section perhaps, belongs to."""
        event = event_of(delivery)
        return None if event is None else self.timings.get(event)

    def ended(
        self, activation: Activation, event: Invocation[Any], error: BaseException | None
    ) -> None:
        timing = self.timings.pop(event, None)
        if timing is None:
            return  # it came before there was an observer, or was reported already
        now_s = self.clock.steady()
        began_s = now_s if timing.began_s is None else timing.began_s
        ended_s = now_s if timing.ended_s is None else timing.ended_s
        if error is None:
            error = timing.error
        self.notify(
            DeliveryEnded(
                number=timing.number,
                kind=kind_of(event),
                method=event.label,
                caller=timing.caller,
                queued_s=began_s - timing.came_s,
                gate_wait_s=timing.gate_wait_s,
                duration_s=max(0.0, ended_s - began_s),
                commit_wait_s=max(0.0, now_s - ended_s),
                outcome=_outcome(timing, error),
                error=None if error is None else f"{type(error).__name__}: {text_of(error)}",
                **_who(activation),
            )
        )


def _without(observer: Observer, observers: tuple[Observer, ...]) -> tuple[Observer, ...]:
    return tuple(other for other in observers if other is not observer)


def _who(activation: Activation) -> dict[str, Any]:
    return {
        "class_name": activation.cls.__name__,
        "object_id": str(activation.id),
        "name": activation.handle.name if activation.id.name is None else activation.id.name,
    }


def kind_of(event: Invocation[Any]) -> str:
    """What sort of delivery *event* is."""
    return event.label if event.label in HANDLERS else "rpc"


def _caller(event: Invocation[Any]) -> str | None:
    caller = event_of(event.caller)
    return None if caller is None else str(caller.activation.id)


def _outcome(timing: Timing, error: BaseException | None) -> Outcome:
    if error is None:
        return Outcome.OK
    if timing.error is not None and timing.error is error:
        return Outcome.ERROR
    if isinstance(error, DurableError):
        if error.reset:
            return Outcome.RESET
        if timing.began_s is None:
            return Outcome.OVERLOADED if error.overloaded else Outcome.REFUSED
    return Outcome.ERROR


class _Watched:
    """The body of a delivery, which says when it begins."""

    __slots__ = ("_body", "_course", "_event", "_activation", "_observers")

    def __init__(
        self,
        observers: Observers,
        activation: Activation,
        event: Invocation[Any],
        timing: Timing,
        body: Callable[[], Any],
    ) -> None:
        self._observers = observers
        self._activation = activation
        self._event = event
        self._course = timing
        self._body = body

    def __call__(self) -> Any:
        timing, clock = self._course, self._activation.services.clock
        timing.began_s = began_s = clock.steady()
        try:
            value = self._body()
        except BaseException as error:
            timing.error = error
            raise
        finally:
            timing.ended_s = clock.steady()
            self._took(timing.ended_s - began_s)
        if isinstance(self._event, Ringing):
            if value is CANCELLED:
                return value
            self._rings(self._event.alarm, self._event.name)
        if not hasattr(value, "__await__"):
            return value
        timing.ended_s = None
        coro = value if type(value) is CoroutineType else _await(value)
        return _TimedSteps(coro, timing, clock.steady, self._took)

    def _took(self, duration_s: float) -> None:
        if duration_s >= SLOW_TURN_S_MIN:
            self._observers.took(self._activation, self._event, duration_s)

    def _rings(self, alarm: Alarm, timer: str | None) -> None:
        if self._observers.observers:
            self._observers.rings(self._activation, alarm, timer)


async def _await(value: Any) -> Any:
    return await value


class _TimedSteps(Steps):
    """An author's coroutine, whose steps are timed."""

    __slots__ = ("_course", "_steady", "_took")

    def __init__(
        self,
        coro: Any,
        timing: Timing,
        steady: Callable[[], float],
        took: Callable[[float], None],
    ) -> None:
        super().__init__(coro)
        self._course = timing
        self._steady = steady
        self._took = took

    def step(self, resume: Callable[..., Any], *args: Any) -> Any:
        began_s = self._steady()
        try:
            trap = resume(*args)
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
