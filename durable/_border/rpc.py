"""What goes in and out of an object: values by copy, a few things by reference.

Plain values are copied by type; what is not plain by the codec of the program, if it has its own,
else as its class says. Stubs, ids, requests, responses and web sockets are passed as they are.
A callable is passed as a `RemoteFunction`: awaiting a call of it runs it where it came from,
and if that is an object, through its gate.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import Any

from durable._engine.codec import MsgpackCodec
from durable._gates.delivery import CURRENT
from durable._gates.ending import Stopped
from durable._gates.futures import Answer, PendingAnswer, when_done
from durable._gates.saying import say
from durable._model.errors import RuntimeClosed, WrongLoop
from durable._model.ids import ObjectId
from durable._model.messages import Request, Response
from durable._model.values import ATOMS, copy_value
from durable._object.activation import Activation, sending_activation
from durable._object.deadlocks import section_awaits
from durable._object.invocation import Invocation
from durable._object.services import Services

from .bodies import detach_body
from .by_reference import ByReference


class RemoteFunction(ByReference):
    """A callable of the other side: `await function(...)` runs it there, arguments by value."""

    __slots__ = ("_fn", "_activation", "_services")

    def __init__(
        self, fn: Callable[..., Any], activation: Activation | None, services: Services
    ) -> None:
        self._fn = fn
        self._activation = activation
        self._services = services
        if activation is not None:
            activation.pin()

    @property
    def activation(self) -> Activation | None:
        """The activation of the object that the function came from; None if it is the program's."""
        return self._activation

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[], Any]:
        """A callable that calls the function itself with these arguments."""
        return partial(self._fn, *args, **kwargs)

    @property
    def label(self) -> str:
        """The name of the function."""
        return str(getattr(self._fn, "__qualname__", self._fn))

    def __call__(self, *args: Any, **kwargs: Any) -> Answer[Any]:
        services = self._services
        if not services.loop.is_here():
            raise WrongLoop(repr(self))
        args, kwargs = copy_arguments(services, args, kwargs)
        body = partial(self._fn, *args, **kwargs)
        label = getattr(self._fn, "__qualname__", "function")
        activation = self._activation
        if activation is None:
            return call_outside(services, body, label)
        invocation: Invocation[Any] = Invocation(
            activation, body, copy_context(), label, CURRENT.get(), export_value
        )
        send(invocation)
        return invocation

    def __del__(self) -> None:
        if self._activation is not None:
            loop = self._services.loop
            if loop.is_here():
                self._activation.unpin()
            else:  # the last reference was another thread's
                loop.call_soon_threadsafe(self._activation.unpin)

    def __repr__(self) -> str:
        return f"<remote function {self.label}>"


def send(invocation: Invocation[Any]) -> None:
    """Deliver *invocation*; one of an object when the turn ends or waits for others, and what was
    written before is on disk."""
    sender, activation = invocation.caller, invocation.activation
    if sender is None:
        if activation.services.is_open:
            activation.deliver(invocation)
        else:
            invocation.fail(RuntimeClosed())
        return
    activation.counters.subrequests += 1
    if sender.is_section:
        section_awaits(sender, invocation)
    try:
        say(sender, invocation.leave, invocation)
    except Stopped as stopped:
        refused = sender.gate.refuse(stopped)
        when_done(refused, partial(invocation.fail, stopped))


def copy_arguments(
    services: Services, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a call as the callee gets them; UnstorableValue if they cannot be sent."""
    keep = partial(_keep, services, sending_activation())
    copied = copy_value(args, keep) if args else args
    return copied, (copy_value(kwargs, keep) if kwargs else kwargs)


def export_value(activation: Activation, value: Any) -> Any:
    """What a method returned, as the caller gets it."""
    if type(value) in ATOMS:
        return value
    return copy_value(value, partial(_keep, activation.services, activation))


def _keep(services: Services, activation: Activation | None, leaf: Any) -> Any:
    """What stands for *leaf* on the other side."""
    if isinstance(leaf, ByReference | ObjectId):
        return leaf
    if isinstance(leaf, Request | Response):
        sent = Request(leaf) if isinstance(leaf, Request) else leaf._handed_over()
        detach_body(sent, services, activation)
        return sent
    if callable(leaf) and not isinstance(leaf, type):
        return RemoteFunction(leaf, activation, services)
    codec = services.codec
    # The library's own copies an instance as its class says, which is what None is for.
    return None if type(codec) is MsgpackCodec else codec.decode(codec.encode(leaf))


def call_outside(services: Services, body: Callable[[], Any], label: str) -> Answer[Any]:
    """Run a function of the program's, which has no gate, for an object that was given it."""
    answer: PendingAnswer[Any] = PendingAnswer(services.loop)

    async def run() -> None:
        try:
            value = body()
            if hasattr(value, "__await__"):
                value = await value
            answer.resolve(copy_value(value, partial(_keep, services, None)))
        except BaseException as error:  # it is for the caller
            answer.fail(error)
        finally:
            services.loop.ended(services.loop.own_task())

    context = copy_context()
    context.run(CURRENT.set, None)

    def start() -> None:
        services.loop.spawn(run(), label, context)

    sender = CURRENT.get()
    if sender is None:
        start()
    else:
        say(sender, start, answer)
    return answer
