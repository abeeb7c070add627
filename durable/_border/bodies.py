"""Streamed bodies that leave the code that makes them.

The chunks of a body go on being made where it was created: in turns of the object, if it was an
object's code that created it. So a message that crosses a border gets a stream in place of its
generator.
"""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from typing import Any

from durable._gates.delivery import CURRENT
from durable._gates.futures import PendingAnswer
from durable._model.messages import Request, Response
from durable._object.activation import Activation
from durable._object.services import Services

from .streams import Pipe, Stream, Streaming, end_with
from .websocket import hand_over

# The bodies that code of the program has sent in this context and that are still being made: the
# answers come when they are not.
_SENT: ContextVar[tuple[PendingAnswer[None], ...]] = ContextVar("durable_sent_bodies", default=())


def bodies_on_the_way() -> list[PendingAnswer[None]]:
    """The streamed bodies that this code has sent and that are still being made, each by what
    comes when it is not."""
    return [sent for sent in _SENT.get() if not sent.is_done]


def detach_body(
    message: Request | Response, services: Services, activation: Activation | None
) -> None:
    """Let the body of *message*, which *activation* or the program made, be read outside of it."""
    chunks = message._take_stream()
    if chunks is None or isinstance(chunks, Stream):
        return
    pipe = Pipe(services.loop)
    message._set_stream(Stream[bytes](pipe))
    context = copy_context()
    if activation is None:
        context.run(CURRENT.set, None)
        context.run(_SENT.set, ())
        made: PendingAnswer[None] = PendingAnswer(services.loop)
        _SENT.set((*bodies_on_the_way(), made))
        services.loop.spawn(_pump(pipe, aiter(chunks), services, made), "body", context)
        return

    def run() -> Any:
        return pipe.pump(aiter(chunks), _unchanged, invocation)

    invocation = Streaming(activation, run, context, "body", CURRENT.get())
    invocation.pipe = pipe
    invocation.is_waited_for = False
    end_with(pipe, invocation)
    activation.deliver(invocation)


async def _pump(pipe: Pipe, chunks: Any, services: Services, made: PendingAnswer[None]) -> None:
    try:
        await pipe.pump(chunks, _unchanged, None)
    except BaseException as error:  # it is for the reader of the body
        pipe.ended(error)
    else:
        pipe.ended(None)
    finally:
        made.resolve(None)
        services.loop.ended(services.loop.own_task())


def _unchanged(chunk: Any) -> Any:
    return chunk


def export_response(activation: Activation, response: Any) -> Response:
    """What an object's `fetch` has answered, as it leaves the object."""
    if not isinstance(response, Response):
        raise TypeError(
            f"{activation.cls.__name__}.fetch() must return a durable.Response, not "
            f"{type(response).__name__}"
        )
    sent = response._handed_over()
    content = sent._content
    if content is not None and type(content) is not bytes:
        detach_body(sent, activation.services, activation)
    if sent.websocket is not None:
        sent.websocket = hand_over(sent.websocket)
    return sent
