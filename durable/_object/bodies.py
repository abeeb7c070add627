"""Streamed bodies that leave the code that makes them.

The chunks of a body go on being made where it was created: in turns of the object, if it was an
object's code that created it. So a message that crosses a border gets a stream in the place of its
generator.
"""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

from durable._gates.delivery import CURRENT
from durable._model.messages import Request, Response

from .events import Event
from .host import Host
from .services import Services
from .streams import Channel, Stream, end_with


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
        services.loop.spawn(_pump(channel, aiter(chunks)), "body", context)
        return

    def run() -> Any:
        return channel.pump(aiter(chunks), _unchanged, event)

    event: Event[None] = Event(host, run, context, "body", CURRENT.get())
    event.is_waited_for = False
    end_with(channel, event)
    host.deliver(event)


async def _pump(channel: Channel, chunks: Any) -> None:
    try:
        await channel.pump(chunks, _unchanged, None)
    except BaseException as error:  # it is for whoever reads the body
        channel.finish(error)
    else:
        channel.finish(StopAsyncIteration())


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
