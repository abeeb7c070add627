"""Streamed bodies that leave the code that makes them.

The chunks of a body go on being made where it was created: in turns of the object, if it was an
object's code that created it. So a message that crosses a border gets a stream in the place of its
generator.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any
from weakref import ref

from durable._gates.answers import when_done
from durable._gates.delivery import CURRENT
from durable._model.errors import WebSocketClosed
from durable._model.messages import Request, Response
from durable._object.events import Event, itself
from durable._object.host import Host
from durable._object.services import Services

from .streams import Channel, Stream, end_with


class Fetch(Event[Response]):
    """A call of `fetch`, and its answer.

    Tasks that the handler has started know the call as long as they live. So it does not keep a web
    socket that its caller has taken: dropped by the caller, that one is gone. So it is if the
    caller has given up, and nobody awaits the answer when it comes.
    """

    __slots__ = ("awaiting", "request")

    awaiting: int  # how many do; not set before the first
    request: Request

    def begin(self) -> Any:
        body = self.body
        return self._fetch() if body is itself else body()

    def _fetch(self) -> Any:
        return self.host.handle_fetch(self.request)

    def watch(self, watched: Callable[[Callable[[], Any]], Callable[[], Any]]) -> None:
        self.body = watched(self._fetch if self.body is itself else self.body)

    def __await__(self) -> Generator[Any, Any, Response]:
        self.awaiting = getattr(self, "awaiting", 0) + 1
        try:
            answer: Any = yield from super().__await__()
        except BaseException:
            self.awaiting -= 1
            when_done(self, self._given_up)
            raise
        self.awaiting -= 1
        response: Response | None = answer() if isinstance(answer, ref) else answer
        if response is None:
            raise WebSocketClosed("the answer was awaited before, and its socket dropped since")
        self._keep_weakly(response)
        return response

    def _given_up(self) -> None:
        if not self.awaiting and self._error is None and not isinstance(self._value, ref):
            self._keep_weakly(self._value)

    def _keep_weakly(self, response: Response) -> None:
        if response.websocket is not None:
            taken: Any = ref(response)
            self._value = taken


def detach_body(message: Request | Response, services: Services, host: Host | None) -> None:
    """Let the body of *message*, made by *host* or by the program, be read by somebody else."""
    chunks = message._take_stream()
    if chunks is None or isinstance(chunks, Stream):
        return
    channel = Channel(services.loop)
    message._set_stream(Stream[bytes](channel))
    context = copy_context()
    if host is None:
        context.run(CURRENT.set, None)
        services.loop.spawn(_pump(channel, aiter(chunks), services), "body", context)
        return

    def run() -> Any:
        return channel.pump(aiter(chunks), _unchanged, event)

    event: Event[None] = Event(host, run, context, "body", CURRENT.get())
    event.is_waited_for = False
    end_with(channel, event)
    host.deliver(event)


async def _pump(channel: Channel, chunks: Any, services: Services) -> None:
    try:
        await channel.pump(chunks, _unchanged, None)
    except BaseException as error:  # it is for whoever reads the body
        channel.ended(error)
    else:
        channel.ended(None)
    finally:
        services.loop.ended(services.loop.own_task())


def _unchanged(chunk: Any) -> Any:
    return chunk


def export_response(host: Host, response: Any) -> Response:
    """What an object's `fetch` has answered, as it leaves the object."""
    if not isinstance(response, Response):
        raise TypeError(
            f"{host.cls.__name__}.fetch() must return a durable.Response, not "
            f"{type(response).__name__}"
        )
    detach_body(response, host.services, host)
    if response.websocket is not None:
        response.websocket = response.websocket._hand_over()
    return response
