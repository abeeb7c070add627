"""The activation: keeper of one live object, from its first invocation until it is evicted or
broken.

A activation lives once: STARTING, RUNNING, then EVICTED or BROKEN, after which the next
invocation finds a new activation. What a broken one leaves behind: its callers get the reason,
its code cleans up and can do nothing else, what had left it goes on to the disk, and what had
not is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextvars import copy_context
from typing import Any, ClassVar, cast

from attrs import define

from durable._engine.batch import ObjectHandle
from durable._gates.critical_section import Sections
from durable._gates.delivery import CURRENT
from durable._gates.futures import PendingAnswer, when_done
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
from durable._storage.object_storage import ObjectStorage

from . import deadlocks
from .counters import Counters
from .invocation import Invocation, size_of
from .live import Phase
from .reasons import COMMIT_TOO_LONG, TOO_LONG, TOO_MANY, TOO_MUCH, reset_by
from .services import Services


@define(eq=False, slots=True, init=False, repr=False)
class Activation:
    """Keeps one object alive, and knows when it need not."""

    gate_class: ClassVar[type[InputGate[Any]]] = InputGate

    id: ObjectId
    cls: type
    services: Services
    gate: InputGate[Any]
    output: OutputGate
    sections: Sections
    handle: ObjectHandle
    storage: ObjectStorage
    state: Any
    counters: Counters
    instance: Any
    phase: Phase
    # Events that are not yet answered; None rather than empty, as an idle object is to be small.
    _open: set[Invocation[Any]] | None
    # What else keeps the object in memory: sockets, functions given away, wait_until.
    pins: int
    idle_since_s: float
    # Runs while a batch is on its way, or was when it was last looked at.
    commit_timer: Timer | None
    is_held_for_room: bool
    idle_timer: Timer | None
    # What waits for the writes of a predecessor to be on disk; None if there are none.
    begins_later: list[Callable[[], None]] | None

    def __init__(
        self, object_id: ObjectId, cls: type, services: Services, handle: ObjectHandle
    ) -> None:
        self.id = object_id
        self.cls = cls
        self.services = services
        self.output = OutputGate()
        self.gate = self.gate_class(services.loop, self.output, self._seal, services.start)
        self.output.on_first_write = self._first_write
        self.sections = Sections(self.gate, services.timers, services.limits, self.fail)
        self.handle = handle
        self.storage = self._make_storage(handle)
        self.state = None
        self.counters = services.counters_of(handle.class_number, cls)
        self.instance = None
        self.phase = Phase.NEW
        self._open = None
        self.pins = 0
        self.idle_since_s = services.clock.steady()
        self.commit_timer = None
        self.is_held_for_room = False
        self.idle_timer = None
        self.begins_later = None

    def _make_storage(self, handle: ObjectHandle) -> ObjectStorage:
        services = self.services
        return ObjectStorage(
            handle=handle,
            reads=services.reads,
            submit=services.submit,
            next_keyspace=services.next_keyspace,
            gate=self.gate,
            output=self.output,
            codec=services.codec_of(self.cls),
            limits=services.limits,
            clock=services.clock,
            budget=services.budget,
            run_section=self.sections.run,
            has_alarm_handler=hasattr(self.cls, "alarm"),
            on_failed=self._commit_failed,
            on_damaged=self.fail,
        )

    def _commit_failed(self, reason: DurableError) -> None:
        self.break_(reason)

    def begin_at(self, handle: ObjectHandle) -> None:
        """Begin with what the disk holds now; it was not yet all there when the activation was
        made."""
        assert self.phase is Phase.NEW or self.phase is Phase.STARTING
        self.handle = handle
        self.storage = self._make_storage(handle)
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
        handle = self.handle
        if handle.name is None:
            handle.name = name_to_keep(name)

    # Events

    def deliver(self, invocation: Invocation[Any]) -> None:
        """Give *invocation* its place in line; it gets its answer, whatever happens."""
        gate = self.gate
        if self.services.hooks is not None:
            self.services.hooks.came(self, invocation)
        if gate.broken is not None:
            self._refuse(invocation, gate.broken.again())
            return
        self.counters.deliveries += 1
        if self.services.latest is not self:
            self.services.latest = self
            self.storage.touch()
        if self.phase is Phase.NEW:
            self._construct_first()
            if gate.broken is not None:  # where tasks are eager, the constructor has run by now
                self.counters.errors += 1
                self._refuse(invocation, gate.broken.again())
                return
        if self._open is None:
            self._open = {invocation}
        else:
            self._open.add(invocation)
        if gate.enter_nowait(invocation):
            self.services.start(invocation)
            return
        refusal = self._refusal(invocation)
        if refusal is not None:
            self._close(invocation)
            refusal.object_id = str(self.id)
            self.counters.overloaded += refusal.overloaded
            self._refuse(invocation, refusal)
            return
        invocation.came_s = self.services.clock.steady()
        gate.queue(invocation)
        if invocation.caller is not None and gate.sections:
            deadlocks.is_kept_out(invocation)

    def give_up(self, invocation: Invocation[Any], error: DurableError) -> None:
        """Answer *invocation*, which could never be served, with *error*; it leaves the line."""
        self.gate.forget(invocation)
        invocation.answer(None, error)

    def invocation_ended(self, invocation: Invocation[Any], error: BaseException | None) -> None:
        """*invocation* has its answer, which is *error* if that is not None."""
        self._close(invocation)
        if self._open is None:
            self.idle_since_s = self.services.clock.steady()
        if self.services.hooks is not None:
            self.services.hooks.ended(self, invocation, error)

    def _refuse(self, invocation: Invocation[Any], error: DurableError) -> None:
        invocation.fail(error)
        if self.services.hooks is not None:
            self.services.hooks.refused(self, invocation)

    @property
    def open(self) -> Collection[Invocation[Any]]:
        """The invocations that are not yet answered."""
        return self._open or ()

    def _close(self, invocation: Invocation[Any]) -> None:
        if self._open is not None:
            self._open.discard(invocation)
            if not self._open:
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
        construct: Invocation[None] = Invocation(
            self, self._construct, copy_context(), "constructor", None
        )
        if self.gate.enter_nowait(construct):
            self.services.start(construct)
        else:
            construct.came_s = self.services.clock.steady()
            self.gate.queue(construct)  # its predecessor's writes are still on their way

    def _construct(self) -> None:
        self.storage.constructing = True
        began_s = self.services.clock.steady()
        try:
            self.services.construct(self)
        except BaseException as error:
            if isinstance(error, INTERRUPTS):
                self.services.loop.raise_in_program(error)
            self.fail(error)
            return
        finally:
            self.storage.constructing = False
        self.counters.woken += 1
        if self.phase is Phase.STARTING:  # it may have called abort()
            self.phase = Phase.RUNNING
        if self.services.hooks is not None and self.phase is not Phase.BROKEN:
            self.services.hooks.woken(self, self.services.clock.steady() - began_s)

    # The gates' way to speak to the storage

    def _seal(self) -> None:
        buffer = self.storage.buffer
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
            self._time_commit(self.output.seqno_of_all())

    def _hold_for_room(self) -> None:
        """Let nobody in while more than enough of this object is on its way to the disk."""
        if not self.is_held_for_room:
            room = self.storage.buffer.wait_room(None, holds=False)
            if isinstance(room, PendingAnswer):
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
        if self.gate.holder is None:
            self.services.loop.call_soon(self._seal_outside_of_turns)

    def _seal_outside_of_turns(self) -> None:
        if self.gate.holder is None and self.output.has_unsealed and self.gate.broken is None:
            self._seal()

    def _time_commit(self, number: int) -> None:
        """Look, when the limit has passed, whether the batch that is sealed now is durable."""

        def look() -> None:
            if self.phase.is_over:
                return
            if not self.output.is_durable(number):
                self.break_(ObjectReset(COMMIT_TOO_LONG, overloaded=True))
            elif self.output.in_flight:
                self._time_commit(self.output.seqno_of_all())
            else:
                self.commit_timer = None

        limit_s = self.services.limits.commit_s_max
        self.commit_timer = self.services.timers.call_later(limit_s, look)

    def keep_for(self, ws: WebSocket) -> None:
        """Code of the object has accepted *ws* to read it itself."""
        self.services.keep_socket(self, ws)

    def unpin(self) -> None:
        self.pins -= 1
        self.idle_since_s = self.services.clock.steady()

    # The end

    @property
    def is_idle(self) -> bool:
        """Nothing is under way, and nothing but memory would be lost by eviction."""
        gate = self.gate
        return (
            self._open is None
            and not self.pins
            and not gate.running
            and gate.holder is None
            and not gate.queued
            and not gate.sections
            and not self.output.in_flight
            and not self.output.has_unsealed
        )

    def finish_turns(self) -> None:
        """The runtime closes: what was written and not yet sealed is a batch now."""
        if self.output.has_unsealed and self.gate.broken is None:
            self.storage.seal()

    def evict(self) -> None:
        """Forget an idle object; the next invocation builds it anew."""
        assert self.is_idle
        self.phase = Phase.EVICTED
        self.counters.evicted += 1
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
        if isinstance(delivery, Invocation) and delivery.activation is self:
            delivery.blame(gives_up=not retry_alarm)
        text = "Application called abort() to reset Durable Object." if reason is None else reason
        aborted = ObjectAborted(str(text))
        self.break_(aborted)
        return self.gate.stopped()

    def fail(self, error: BaseException) -> None:
        """Reset the object because of what its own code raised in a section or the constructor, or
        of a damaged value that it has read."""
        if self.phase is Phase.RUNNING:
            for invocation in self.open:
                if invocation.tasks:
                    invocation.blame()
        self.break_(reset_by(error))

    def break_(self, reason: DurableError) -> None:
        """Reset the object: whoever waits for it gets *reason*, and so does who calls this
        activation."""
        if self.gate.broken is not None:
            return
        reason.object_id = str(self.id)
        self.phase = Phase.BROKEN
        self.counters.errors += len(self.open)
        if self.services.is_open:
            self.counters.broken += 1
            log.warning("%s was reset: %s", self.label, reason, extra=self.marks)
        self.gate.break_(reason, self.label)
        unheard = self.output.drop_waiting()
        # Before anybody is told: whoever asks for the object because of it is to find a new
        # activation.
        self._gone()
        invocations = list(self.open)
        for invocation in invocations:
            invocation.fail(reason.again())
        for message in unheard:
            message.fail(reason.again())
        self._open = None
        if self.services.hooks is not None:
            self.services.hooks.broke(self, reason, invocations)
        assert self.gate.ending is not None
        self.gate.ending.begin()

    def _gone(self) -> None:
        self.instance = None  # a stub may keep this activation for long
        if self.idle_timer is not None:
            self.idle_timer.cancel()
        if self.commit_timer is not None:
            self.commit_timer.cancel()
        if self.services.latest is self:
            self.services.latest = None
        self.storage.discard()
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
        return self.id.name if self.handle.name is None else self.handle.name

    @property
    def label(self) -> str:
        who = str(self.id) if self.name is None else repr(self.name)
        return f"{self.cls.__name__}({who})"

    def __repr__(self) -> str:
        return f"<Activation {self.label} {self.phase.value}, {self.gate!r}, {self.output!r}>"


def sending_activation() -> Activation | None:
    """The activation of the object whose code runs, or None for the program's own."""
    delivery = CURRENT.get()
    while delivery is not None and not isinstance(delivery, Invocation):
        delivery = delivery.parent
    return cast("Activation", delivery.activation) if delivery is not None else None
