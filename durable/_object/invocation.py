"""Invocations: what is delivered to an object from outside of it, and the answers that leave it.

Whatever the kind, an answer leaves through the output gate: it is heard when all that the object
wrote before it is on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar

from durable._engine.shards import NotOwner
from durable._gates.delivery import CURRENT, Delivery
from durable._gates.futures import PendingAnswer
from durable._gates.saying import let_go
from durable._model.errors import DurableError, ObjectReset
from durable._model.instances import Apart, take_apart

from .live import LiveObject, Phase
from .reasons import fault

if TYPE_CHECKING:
    from durable._gates.input_gate import InputGate
    from durable._loop.loop import Waker

T = TypeVar("T")


class Invocation(Delivery[T]):
    """A delivery that came from outside."""

    __slots__ = ("came_s", "caller", "export", "activation", "is_waited_for", "payload", "seqno")

    # Whether a full queue refuses it; not what is bounded where it comes from.
    is_refusable: ClassVar[bool] = True
    # Whether its caller, code of an object, is in another process.
    is_from_afar: bool = False
    # When it had to wait in line, and the batch that its answer waits for: set when it does.
    came_s: float
    seqno: int

    def __init__(
        self,
        activation: LiveObject,
        body: Callable[[], Any],
        context: Context,
        label: str,
        caller: Delivery[Any] | None,
        export: Callable[[Any, Any], Any] | None = None,
    ) -> None:
        # Written out, and not left to the bases: every call makes one of these.
        gate = activation.gate
        self.gate: InputGate[Any] = gate
        self._loop = gate.loop
        self._is_done = False
        self._error = None
        self._waiting = None
        self.body: Callable[[], Any] = body
        self.context = context
        self.label = label
        self.parent: Delivery[Any] | None = None
        self.tasks = 0
        self.fanned_out = False
        self.is_section = False
        self.has_left = False
        self.activation: LiveObject = activation
        # The delivery, of another object or this one, whose code made the call; None once that has
        # its answer: an object that goes on by calling itself would else keep all its past.
        self.caller: Delivery[Any] | None = caller
        # Makes what leaves the object of what the handler returns; refuses what cannot leave.
        self.export: Callable[[Any, Any], Any] | None = export
        # False for what only its consumer ends: closing the runtime does not wait for it.
        self.is_waited_for: bool = True
        self.size = 0
        # What it brings, to be weighed if it has to wait in line.
        self.payload: Any = None

    def move(self, activation: LiveObject) -> None:
        """Be for *activation*, since the one that it was for has left memory before it came."""
        self.activation = activation
        self.gate = activation.gate

    @property
    def is_of_object(self) -> bool:
        """Whether code of an object is its caller."""
        return self.caller is not None or self.is_from_afar

    def ask_afar(self, way: Any) -> None:
        """Let the caller's process go on with the search that *way* is the beginning of."""

    def awaited(self) -> Iterator[tuple[Delivery[Any], PendingAnswer[Any]]]:
        """What code of objects may await of it, and which code does if any."""
        if self.caller is not None:
            yield self.caller, self

    def _add(self, waker: Waker) -> None:
        if self.caller is not None:
            let_go(CURRENT.get())  # this call, among others
            if self._is_done:  # where tasks are eager
                waker.wake()
                return
        if self._waiting is None:
            self._waiting = waker
        else:
            super()._add(waker)

    def leave(self) -> None:
        """Come out of the object whose code made the call."""
        activation = self.activation
        if activation.phase is Phase.EVICTED:
            # While it was idle, as far as it knew. Eviction is not to be seen.
            services = activation.services
            try:
                activation = services.activation_of(
                    activation.id, activation.cls, activation.handle.class_number
                )
            except NotOwner:
                services.send_on(self)
                return
            self.move(activation)
        activation.deliver(self)

    def watch(self, watched: Callable[[Callable[[], Any]], Callable[[], Any]]) -> None:
        """Put what *watched* makes of the body in its place."""
        self.body = watched(self.body)

    def end(self, value: Any, error: BaseException | None) -> Delivery[Any] | None:
        gate = self.gate
        if gate.broken is not None:
            return None  # the caller has the reason already
        if error is None and self.export is not None:
            try:
                value = self.export(self.activation, value)
            except BaseException as refused:
                error = refused
        if error is not None and gate.loop.is_cancellation(error):
            error = _cancelled(error, self)
        following = gate.leave(self)
        output = gate.output
        if self._is_done and not output.is_open():
            return following  # the object has broken as the turn was sealed
        if output.keeps(self):
            # Kept in the answer, where it is not looked for yet. A busy store has thousands of
            # these on their way, and the garbage collector walks over all that they are made of.
            self._error = error
            if error is None:
                self._value = value
        else:
            self.answer(value, error)
        return following

    def blame(self, *, gives_up: bool = False) -> None:
        """Its object breaks by its own doing, in this invocation or for it."""

    def fault(self, error: BaseException) -> None:
        self.activation.break_(fault(error))
        self.fail(fault(error))  # if the activation had broken before, or had not counted it yet

    def let_out(self) -> None:
        error = self._error
        self.answer(None if error is not None else self._value, error)

    def answer(self, value: Any, error: BaseException | None) -> None:
        """Let the answer be heard, and be done."""
        self.activation.invocation_ended(self, error)
        if error is None:
            self.caller = None
            self.resolve(value)
        else:
            self.activation.counters.errors += 1
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        self.caller = None
        super().fail(error)


def itself() -> NoReturn:
    """In place of the body of a call: what it runs, the call knows."""
    raise AssertionError("a call is its own body")


class MethodCall(Invocation[T]):
    """The call of a method: the label is its name, the payload its arguments, if there are any."""

    __slots__ = ()

    def begin(self) -> Any:
        body = self.body
        return self._call() if body is itself else body()

    def _call(self) -> Any:
        method = getattr(self.activation.instance, self.label)
        if self.payload is None:
            return method()
        args, kwargs = self.payload
        return method(*args, **kwargs)

    def watch(self, watched: Callable[[Callable[[], Any]], Callable[[], Any]]) -> None:
        self.body = watched(self._call if self.body is itself else self.body)


class Construction(Invocation[None]):
    """The delivery that runs the constructor; nobody hears its answer."""

    __slots__ = ()

    def end(self, value: Any, error: BaseException | None) -> Delivery[Any] | None:
        return self.gate.leave(self)


def _cancelled(error: BaseException, invocation: Invocation[Any]) -> DurableError:
    """A cancellation belongs to the task that it was raised in, and is not for the caller's."""
    cancelled = ObjectReset(
        f"{invocation.label}() of {invocation.activation.label} was cancelled before it had an "
        f"answer, by its own code or because the runtime closes",
        object_id=str(invocation.activation.id),
    )
    cancelled.reset = False
    cancelled.__cause__ = error
    return cancelled


def size_of(value: Any) -> int:
    """About how many bytes of payload *value* has: of its text and bytes, however deep they are."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if isinstance(value, dict):
        return sum(size_of(key) + size_of(item) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return sum(map(size_of, value))
    parts = take_apart(value)
    return sum(map(size_of, parts.parts.values())) if isinstance(parts, Apart) else 8


def event_of(delivery: Delivery[Any] | None) -> Invocation[Any] | None:
    """The invocation that *delivery*, a critical section perhaps, belongs to."""
    while delivery is not None and not isinstance(delivery, Invocation):
        delivery = delivery.parent
    return delivery
