"""Channels: how a stub reaches its object, wherever that is.

A stub knows a channel and nothing behind it. What goes through a channel are names, values,
requests and what is passed by reference; what comes back is an answer or a stream.

Rule: a channel leads to one incarnation of its object. When that was evicted, the channel is gone
and the next call asks for another one. When it broke, the channel is not gone: each call through
it gets the reason.
"""

from __future__ import annotations

from contextvars import copy_context
from functools import partial
from typing import Any, Protocol, cast

from durable._gates.delivery import CURRENT
from durable._gates.futures import Answer, when_done
from durable._model.errors import RuntimeClosed, WrongLoop
from durable._model.messages import Request, Response
from durable._object.activation import Activation, sending_activation
from durable._object.invocation import Invocation, MethodCall, itself
from durable._object.services import Services

from .bodies import detach_body, export_response
from .fetch_call import FetchCall
from .once import OnceCall, digest_of
from .redirects import Resends, is_sent
from .rpc import copy_arguments, export_value, send
from .streams import Pipe, Stream, Streaming, end_with


class Channel(Protocol):
    """One way to one incarnation of an object.

    Calls through one channel take their places in the order in which they are made: none of these
    methods waits. Each raises at the call what can be known then: WrongLoop on another loop or
    thread than the store's, RuntimeClosed in a program that is closing it, UnstorableValue for an
    argument that cannot be copied. All else comes by the answer.
    """

    __slots__ = ()

    @property
    def is_gone(self) -> bool:
        """Whether the object has left memory unharmed, so that another channel leads to it now."""
        raise NotImplementedError

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[Any]:
        """Call the method *name* with copies of the arguments."""
        raise NotImplementedError

    def call_once(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], key: str
    ) -> Answer[Any]:
        """The same, unless a call of this *key* was made before: then the answer is that one's."""
        raise NotImplementedError

    def stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any]:
        """Call the async generator method *name*; its items are made as they are asked for."""
        raise NotImplementedError

    def fetch(self, request: Request, resends: Resends, hops: int) -> Answer[Response]:
        """Send *request*, which belongs to the channel from now on. When the answer is awaited and
        is a redirect, it is followed by way of *resends*, unless the request says otherwise;
        *hops* redirects have led here."""
        raise NotImplementedError

    def delete_all(self) -> Answer[None]:
        """Delete all that the object has stored, in an invocation of it; it leaves memory after
        that if nothing keeps it there."""
        raise NotImplementedError


class LocalChannel(Channel):
    """The way to an object of this process."""

    __slots__ = ("activation",)

    def __init__(self, activation: Activation) -> None:
        self.activation = activation

    @property
    def is_gone(self) -> bool:
        return self.activation.is_gone

    def call(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[Any]:
        activation = self.activation
        services = activation.services
        if not services.is_open or not services.loop.is_here():  # in line: every call passes here
            check_open(services, activation.cls)
        if args or kwargs:
            args, kwargs = copy_arguments(services, args, kwargs)
        # Not MethodCall[Any](...): typing would be a tenth of the call.
        invocation: MethodCall[Any] = MethodCall(
            activation, itself, copy_context(), name, CURRENT.get(), export_value
        )
        if args or kwargs:
            invocation.payload = (args, kwargs)
        if invocation.caller is None:
            activation.deliver(invocation)  # what `send` does for the program, in line
        else:
            send(invocation)
        return invocation

    def call_once(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], key: str
    ) -> Answer[Any]:
        activation = self.activation
        services = activation.services
        check_open(services, activation.cls)
        args, kwargs = copy_arguments(services, args, kwargs)
        invocation = OnceCall(activation, itself, copy_context(), name, CURRENT.get(), export_value)
        invocation.key = key
        invocation.digest = digest_of(name, args, kwargs, services.codec_of(activation.cls).encode)
        if args or kwargs:
            invocation.payload = (args, kwargs)
        send(invocation)
        return invocation

    def stream(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Stream[Any]:
        activation = self.activation
        services = activation.services
        check_open(services, activation.cls)
        args, kwargs = copy_arguments(services, args, kwargs)
        pipe = Pipe(services.loop)

        def run() -> Any:
            callee = reached(invocation)
            items = getattr(callee.instance, name)(*args, **kwargs)
            return pipe.pump(items, partial(export_value, callee), invocation)

        invocation = Streaming(activation, run, copy_context(), name, CURRENT.get())
        invocation.pipe = pipe
        invocation.is_waited_for = False
        end_with(pipe, invocation)
        send(invocation)
        return Stream(pipe)

    def fetch(self, request: Request, resends: Resends, hops: int) -> Answer[Response]:
        activation = self.activation
        services = activation.services
        if not services.is_open or not services.loop.is_here():  # in line, as above
            check_open(services, activation.cls)
        content = request._content
        if content is not None and type(content) is not bytes:
            detach_body(request, services, sending_activation())
        invocation = FetchCall(
            activation, itself, copy_context(), "fetch", CURRENT.get(), export_response
        )
        is_sent(invocation, request, resends, hops)
        if content is not None:
            invocation.size = request._size
        if invocation.caller is None:
            activation.deliver(invocation)  # in line, as above
        else:
            send(invocation)
        return invocation

    def delete_all(self) -> Answer[None]:
        activation = self.activation
        check_open(activation.services, activation.cls)

        def run() -> Answer[None]:
            return reached(invocation).storage.storage.delete_all()

        def leave() -> None:
            emptied = reached(invocation)
            if invocation.error is None and emptied.is_idle and not emptied.phase.is_over:
                emptied.evict()

        invocation = Invocation[None](activation, run, copy_context(), "delete", CURRENT.get())
        # When the invocation is no longer open, of which the activation hears later than we do.
        when_done(invocation, lambda: activation.services.loop.call_soon(leave))
        send(invocation)
        return invocation

    def __repr__(self) -> str:
        return f"<LocalChannel to {self.activation.label}>"


def reached(invocation: Invocation[Any]) -> Activation:
    """The activation that *invocation* came to: another one than it was sent to, if that was
    evicted while the output gate of its sender held it."""
    return cast("Activation", invocation.activation)


def check_open(services: Services, cls: type) -> None:
    """Raise if objects of *cls* cannot be called now, or from here."""
    if not services.loop.is_here():
        raise WrongLoop(f"<Namespace of {cls.__name__}>")
    if not services.is_open and CURRENT.get() is None:
        raise RuntimeClosed
