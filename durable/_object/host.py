"""The host: keeper of one live object, from its first event until it is evicted or broken.

A host lives once: STARTING, RUNNING, then EVICTED or BROKEN, after which the next event finds a new
host. What a broken one leaves behind: its callers get the reason, its code cleans up and can do
nothing else, what had left it goes on to the disk, and what had not is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import copy_context
from typing import Any, ClassVar, cast

from attrs import define

from durable._engine.batch import Place
from durable._gates.answers import Later, when_done
from durable._gates.critical_section import Sections
from durable._gates.delivery import CURRENT
from durable._gates.input_gate import InputGate
from durable._gates.output_gate import OutputGate
from durable._loop.loop import INTERRUPTS
from durable._loop.timers import Timer
from durable._model.errors import (
    DurableError,
    InternalError,
    NoSuchMethod,
    ObjectAborted,
    ObjectOverloaded,
    ObjectReset,
    WrongLoop,
)
from durable._model.ids import ObjectId, name_to_keep
from durable._model.log import log
from durable._model.messages import Request
from durable._model.websocket import WebSocket
from durable._storage.shelf import Shelf

from . import deadlocks
from .events import Event, size_of
from .live import Phase
from .reasons import COMMIT_TOO_LONG, TOO_LONG, TOO_MANY, TOO_MUCH, reset_by
from .services import Services
from .tally import Tally


@define(eq=False, slots=True, init=False, repr=False)
class Host:
    """Keeps one object alive, and knows when it need not."""

    gate_class: ClassVar[type[InputGate[Any]]] = InputGate

    id: ObjectId
    cls: type
    services: Services
    gate: InputGate[Any]
    output: OutputGate
    sections: Sections
    place: Place
    shelf: Shelf
    state: Any
    tally: Tally
    instance: Any
    phase: Phase
    # Events that are not yet answered; None rather than empty, as an idle object is to be small.
    _open: set[Event[Any]] | None
    # What else keeps the object in memory: sockets, functions given away, wait_until.
    ties: int
    idle_since_s: float
    # Runs while a batch is on its way, or was when it was last looked at.
    commit_timer: Timer | None
    is_held_for_room: bool
    idle_timer: Timer | None
    # What waits for the writes of a predecessor to be on disk; None if there are none.
    begins_later: list[Callable[[], None]] | None

    def __init__(self, object_id: ObjectId, cls: type, services: Services, place: Place) -> None:
        self.id = object_id
        self.cls = cls
        self.services = services
        self.output = OutputGate()
        self.gate = self.gate_class(services.loop, self.output, self._seal, services.start)
        self.output.on_first_write = self._first_write
        self.sections = Sections(self.gate, services.timers, services.limits, self.fail)
        self.place = place
        self.shelf = self._make_shelf(place)
        self.state = None
        self.tally = services.tally_of(place.class_number, cls)
        self.instance = None
        self.phase = Phase.NEW
        self._open = None
        self.ties = 0
        self.idle_since_s = services.clock.steady()
        self.commit_timer = None
        self.is_held_for_room = False
        self.idle_timer = None
        self.begins_later = None

    def _make_shelf(self, place: Place) -> Shelf:
        services = self.services
        return Shelf(
            place=place,
            reads=services.reads,
            submit=services.submit,
            next_number=services.next_number,
            gate=self.gate,
            output=self.output,
            codec=services.codec,
            limits=services.limits,
            clock=services.clock,
            budget=services.budget,
            run_section=self.sections.run,
            has_alarm_handler=hasattr(self.cls, "alarm"),
            on_failed=self._commit_failed,
        )

    def _commit_failed(self, reason: DurableError) -> None:
        self.break_(reason)

    def begin_at(self, place: Place) -> None:
        """Begin with what the disk holds now; it was not yet all there when the host was made."""
        assert self.phase is Phase.NEW or self.phase is Phase.STARTING
        self.place = place
        self.shelf = self._make_shelf(place)
        callbacks, self.begins_later = self.begins_later or (), None
        for callback in callbacks:
            callback()

    def when_open(self, callback: Callable[[], None]) -> None:
        """Call back when what its predecessor wrote is on disk: at once, as a rule."""
        if self.begins_later is None:
            callback()
        else:
            self.begins_later.append(callback)

    def learn_name(self, name: str) -> None:
        """The object was addressed by *name*, which it may not have known."""
        place = self.place
        if place.name is None:
            place.name = name_to_keep(name)

    # Events

    def deliver(self, event: Event[Any]) -> None:
        """Give *event* its place in line; it is answered, sooner or later, whatever happens."""
        gate = self.gate
        if self.services.hooks is not None:
            self.services.hooks.came(self, event)
        if gate.broken is not None:
            self._refuse(event, gate.broken.again())
            return
        self.tally.deliveries += 1
        if self.services.latest is not self:
            self.services.latest = self
            self.shelf.touch()
        if self.phase is Phase.NEW:
            self._construct_first()
            if gate.broken is not None:  # where tasks are eager, the constructor has run by now
                self.tally.errors += 1
                self._refuse(event, gate.broken.again())
                return
        if self._open is None:
            self._open = {event}
        else:
            self._open.add(event)
        if gate.enter_nowait(event):
            self.services.start(event)
            return
        refusal = self._refusal(event)
        if refusal is not None:
            self._close(event)
            refusal.object_id = str(self.id)
            self.tally.overloaded += refusal.overloaded
            self._refuse(event, refusal)
            return
        event.came_s = self.services.clock.steady()
        gate.queue(event)
        if event.caller is not None and gate.sections:
            deadlocks.is_kept_out(event)

    def give_up(self, event: Event[Any], error: DurableError) -> None:
        """Answer *event*, which could never be served, with *error*; it leaves the line."""
        self.gate.forget(event)
        event.answer(None, error)

    def event_ended(self, event: Event[Any], error: BaseException | None) -> None:
        """*event* has its answer, which is *error* if that is not None."""
        self._close(event)
        if self._open is None:
            self.idle_since_s = self.services.clock.steady()
        if self.services.hooks is not None:
            self.services.hooks.ended(self, event, error)

    def _refuse(self, event: Event[Any], error: DurableError) -> None:
        event.fail(error)
        if self.services.hooks is not None:
            self.services.hooks.refused(self, event)

    @property
    def open(self) -> Collection[Event[Any]]:
        """The events that are not yet answered."""
        return self._open or ()

    def _close(self, event: Event[Any]) -> None:
        if self._open is not None:
            self._open.discard(event)
            if not self._open:
                self._open = None

    def _refusal(self, event: Event[Any]) -> DurableError | None:
        """Why an event that would have to wait is not let into the queue."""
        if not event.is_refusable:
            return None
        gate, limits = self.gate, self.services.limits
        if gate.queued >= limits.queued_deliveries_max:
            return ObjectOverloaded(TOO_MANY)
        if event.payload is not None:
            event.size += size_of(event.payload)
        # A single call may be as large as it likes, whether or not the object is at rest.
        if gate.queued_bytes and gate.queued_bytes + event.size > limits.queued_bytes_max:
            return ObjectOverloaded(TOO_MUCH)
        oldest = self._oldest_queued()
        if oldest is not None and self._has_waited(oldest, limits.queued_s_max):
            return ObjectOverloaded(TOO_LONG)
        return None

    def _has_waited(self, event: Event[Any], most_s: float) -> bool:
        """Whether *event* has waited longer than *most_s*, while the process could run."""
        waited_s = self.services.clock.steady() - event.came_s
        return waited_s > most_s and (
            waited_s - self.services.timers.paused_since(event.came_s) > most_s
        )

    def _oldest_queued(self) -> Event[Any] | None:
        oldest = self.gate.oldest_new
        return oldest if isinstance(oldest, Event) else None

    # Fetch

    def handle_fetch(self, request: Request) -> Any:
        """Run the author's `fetch`."""
        handler = getattr(self.instance, "fetch", None)
        if handler is None:
            raise NoSuchMethod(
                f"{self.cls.__name__} has no fetch() handler; define `async def fetch(self, "
                f"request)`, or call one of its methods",
                object_id=str(self.id),
            )
        return handler(request)

    # Starting

    def _construct_first(self) -> None:
        """Put the constructor at the head of the line."""
        self.phase = Phase.STARTING
        construct: Event[None] = Event(self, self._construct, copy_context(), "constructor", None)
        if self.gate.enter_nowait(construct):
            self.services.start(construct)
        else:
            construct.came_s = self.services.clock.steady()
            self.gate.queue(construct)  # its predecessor's writes are still on their way

    def _construct(self) -> None:
        self.shelf.constructing = True
        began_s = self.services.clock.steady()
        try:
            self.services.construct(self)
        except BaseException as error:
            if isinstance(error, INTERRUPTS):
                self.services.loop.raise_in_program(error)
            self.fail(error)
            return
        finally:
            self.shelf.constructing = False
        self.tally.woken += 1
        if self.phase is Phase.STARTING:  # it may have called abort()
            self.phase = Phase.RUNNING
        if self.services.hooks is not None and self.phase is not Phase.BROKEN:
            self.services.hooks.woken(self, self.services.clock.steady() - began_s)

    # The gates' way to speak to the storage

    def _seal(self) -> None:
        buffer = self.shelf.buffer
        try:
            buffer.seal()
        except Exception as error:
            log.exception("the writes of %s could not be made a batch", self.label)
            internal = InternalError("the object's writes could not be made a batch", reset=True)
            internal.__cause__ = error
            self.break_(internal)
            return
        if buffer.sealed_bytes > buffer.dirty_bytes_max:
            self._hold_for_room()
        if self.commit_timer is None and self.output.in_flight:
            self._time_commit(self.output.ticket_of_all())

    def _hold_for_room(self) -> None:
        """Let nobody in while more than enough of this object is on its way to the disk."""
        if not self.is_held_for_room:
            room = self.shelf.buffer.wait_room(None, holds=False)
            if isinstance(room, Later):
                self.is_held_for_room = True
                self.gate.hold()
                when_done(room, self._has_room)

    def _has_room(self) -> None:
        self.is_held_for_room = False
        self.gate.release()

    def _first_write(self) -> None:
        """Code outside of any turn may write too: a callback of the loop, a thread's result."""
        if not self.services.loop.is_here():
            raise WrongLoop(f"the storage of {self.label}")
        if self.gate.owner is None:
            self.services.loop.call_soon(self._seal_outside_of_turns)

    def _seal_outside_of_turns(self) -> None:
        if self.gate.owner is None and self.output.has_unsealed and self.gate.broken is None:
            self._seal()

    def _time_commit(self, number: int) -> None:
        """Look, when the limit has passed, whether the batch that is sealed now is durable."""

        def look() -> None:
            if self.phase.is_over:
                return
            if not self.output.is_durable(number):
                self.break_(ObjectReset(COMMIT_TOO_LONG, overloaded=True))
            elif self.output.in_flight:
                self._time_commit(self.output.ticket_of_all())
            else:
                self.commit_timer = None

        limit_s = self.services.limits.commit_s_max
        self.commit_timer = self.services.timers.call_later(limit_s, look)

    def keep_for(self, ws: WebSocket) -> None:
        """Code of the object has accepted *ws* to read it itself."""
        self.services.keep_socket(self, ws)

    def untie(self) -> None:
        self.ties -= 1
        self.idle_since_s = self.services.clock.steady()

    # The end

    @property
    def is_idle(self) -> bool:
        """Nothing is under way, and nothing but memory would be lost by eviction."""
        gate = self.gate
        return (
            self._open is None
            and not self.ties
            and not gate.running
            and gate.owner is None
            and not gate.queued
            and not gate.sections
            and not self.output.in_flight
            and not self.output.has_unsealed
        )

    def finish_turns(self) -> None:
        """The runtime closes: what was written and not yet sealed is a batch now."""
        if self.output.has_unsealed and self.gate.broken is None:
            self.shelf.seal()

    def evict(self) -> None:
        """Forget an idle object; the next event builds it anew."""
        assert self.is_idle
        self.phase = Phase.EVICTED
        self.tally.evicted += 1
        # For what a callback or a thread may still have in its hands.
        self.gate.broken = ObjectReset(
            "Durable Object was evicted from memory; it is built anew for the next call",
            retryable=True,
            object_id=str(self.id),
        )
        self._gone()
        if self.services.hooks is not None:
            self.services.hooks.evicted(self)

    def abort(self, reason: str | None, *, retry_alarm: bool) -> BaseException:
        """Break the object at its own wish; answers what to raise."""
        delivery = CURRENT.get()
        while delivery is not None and delivery.parent is not None:
            delivery = delivery.parent
        if isinstance(delivery, Event) and delivery.host is self:
            delivery.blame(gives_up=not retry_alarm)
        text = "Application called abort() to reset Durable Object." if reason is None else reason
        aborted = ObjectAborted(str(text))
        self.break_(aborted)
        return self.gate.stopped()

    def fail(self, error: BaseException) -> None:
        """Reset the object because of what its own code raised in a section or the constructor."""
        if self.phase is Phase.RUNNING:
            for event in self.open:
                if event.tasks:
                    event.blame()
        self.break_(reset_by(error))

    def break_(self, reason: DurableError) -> None:
        """Reset the object: whoever waits for it gets *reason*, and so does who calls this host."""
        if self.gate.broken is not None:
            return
        reason.object_id = str(self.id)
        self.phase = Phase.BROKEN
        self.tally.errors += len(self.open)
        if self.services.is_open:
            self.tally.broken += 1
            log.warning("%s was reset: %s", self.label, reason, extra=self.marks)
        self.gate.break_(reason, self.label)
        self.output.drop_waiting()
        # Before anybody is told: whoever asks for the object because of it is to find a new host.
        self._gone()
        events = list(self.open)
        for event in events:
            event.fail(reason.again())
        self._open = None
        if self.services.hooks is not None:
            self.services.hooks.broke(self, reason, events)
        assert self.gate.ending is not None
        self.gate.ending.begin()

    def _gone(self) -> None:
        self.instance = None  # a stub may keep this host for long
        if self.idle_timer is not None:
            self.idle_timer.cancel()
        if self.commit_timer is not None:
            self.commit_timer.cancel()
        if self.services.latest is self:
            self.services.latest = None
        self.shelf.discard()
        for tell in self.services.on_gone:
            try:
                tell(self)
            except Exception:  # those who wait for this object are still to be told
                log.exception("the end of %s could not be told", self.label)

    @property
    def marks(self) -> dict[str, str | None]:
        """Which object a record of the log is about, as attributes of the record."""
        return {
            "object_class": self.cls.__name__,
            "object_id": str(self.id),
            "object_name": self.name,
        }

    @property
    def name(self) -> str | None:
        """The name it was ever addressed by, however long."""
        return self.id.name if self.place.name is None else self.place.name

    @property
    def label(self) -> str:
        who = str(self.id) if self.name is None else repr(self.name)
        return f"{self.cls.__name__}({who})"

    def __repr__(self) -> str:
        return f"<Host {self.label} {self.phase.value}, {self.gate!r}, {self.output!r}>"


def sender_host() -> Host | None:
    """The host of the object whose code runs, or None for the program's own."""
    delivery = CURRENT.get()
    while delivery is not None and not isinstance(delivery, Event):
        delivery = delivery.parent
    return cast("Host", delivery.host) if delivery is not None else None
