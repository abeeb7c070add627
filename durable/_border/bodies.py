"""Streamed bodies that leave the code that makes them.

The chunks of a body go on being made where it was created: in turns of the object, if it was an
object's code that created it. So a message that crosses a border gets a stream in the place of its
generator.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any, Protocol
from weakref import ref

from yarl import URL

from durable._gates.delivery import CURRENT
from durable._gates.futures import when_done
from durable._model.errors import WebSocketClosed
from durable._model.messages import REDIRECT_STATUSES, Redirect, Request, Response
from durable._object.activation import Activation
from durable._object.invocation import Invocation, itself
from durable._object.services import Services

from .streams import Pipe, Stream, Streaming, end_with
from .websocket import end_of

REDIRECTS_MAX = 20
"""How many redirects of one call are followed, as in Cloudflare's runtime."""


class OneTime(enum.Enum):
    """In the place of a body that cannot be sent again: it is a stream, and is not to be kept."""

    STREAM = "stream"


class FetchCall(Invocation[Response]):
    """A call of `fetch`, and its answer.

    Tasks that the handler has started know the call as long as they live. So it does not keep a web
    socket that its caller has taken: dropped by the caller, that one is gone. So it is if the
    caller has given up, and nobody awaits the answer when it comes.

    A redirect is followed by the one who awaits the answer, so that a call costs nothing for it.
    """

    __slots__ = ("awaiting", "content", "followed", "hops", "redirect", "request", "stub")

    awaiting: int  # how many do; not set before the first
    request: Request
    # For following a redirect: what it was sent by, and the body if that can be sent again.
    stub: Fetches
    content: bytes | OneTime | None
    redirect: Redirect
    hops: int  # redirects before this call; not set for the first one
    followed: FetchCall  # the call that it was redirected to; not set before

    def begin(self) -> Any:
        body = self.body
        return self._fetch() if body is itself else body()

    def _fetch(self) -> Any:
        return self.activation.handle_fetch(self.request)

    def watch(self, watched: Callable[[Callable[[], Any]], Callable[[], Any]]) -> None:
        self.body = watched(self._fetch if self.body is itself else self.body)

    def __await__(self) -> Generator[Any, Any, Response]:
        self.awaiting = getattr(self, "awaiting", 0) + 1
        try:
            answer: Any = yield from super().__await__()
        except BaseException:
            self.awaiting -= 1
            if not self.awaiting and not self._is_done:
                self.request.signal._abort()
            when_done(self, self._given_up)
            raise
        self.awaiting -= 1
        response: Response | None = answer() if isinstance(answer, ref) else answer
        if response is None:
            raise WebSocketClosed("the answer was awaited before, and its socket dropped since")
        self._keep_weakly(response)
        if response.status in REDIRECT_STATUSES and self.redirect != "manual":
            followed = self._follow(response)
            if followed is not None:
                return (yield from followed.__await__())
        return response

    def _given_up(self) -> None:
        if not self.awaiting and self._error is None and not isinstance(self._value, ref):
            self._keep_weakly(self._value)

    def _keep_weakly(self, response: Response) -> None:
        if response.websocket is not None:
            taken: Any = ref(response)
            self._value = taken

    def _follow(self, response: Response) -> FetchCall | None:
        """The call that *response* redirects to; None if it does not say where."""
        if self.redirect == "error":
            raise TypeError(
                f"{self.request!r} was answered with a redirect ({response.status}), and its "
                f'redirect mode is "error"; give redirect="manual" to see the response'
            )
        location = response.headers.get("location")
        if location is None:
            return None
        if not hasattr(self, "followed"):
            hops = getattr(self, "hops", 0) + 1
            if hops > REDIRECTS_MAX:
                raise TypeError(f"Too many redirects: more than {REDIRECTS_MAX}, to {location} now")
            request = redirected(self.request, self.content, response.status, location)
            self.followed = self.stub._send_on(request, hops)
        return self.followed


class Fetches(Protocol):
    """A stub, as far as following a redirect takes one."""

    def _send_on(self, request: Request, hops: int) -> FetchCall: ...


def redirected(
    request: Request, content: bytes | OneTime | None, status: int, location: str
) -> Request:
    """The request that follows a redirect of *request*, whose body was *content*."""
    try:
        url = request.url.join(URL(location))
    except ValueError:
        raise TypeError(
            f"Invalid Location header; unable to follow redirect to {location!r}"
        ) from None
    if status != 303 and isinstance(content, OneTime):
        raise TypeError(
            "A request with a one-time-use body (it was initialized from a stream, not a buffer) "
            "encountered a redirect requiring the body to be retransmitted. To avoid this error in "
            "the future, construct this request from a buffer-like body initializer."
        )
    method = request.method
    if (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST"):
        method, content = "GET", None
    made = Request(url, method=method, headers=request.headers)
    if content is None:
        made.headers.popall("content-length", None)
    made._put(None if isinstance(content, OneTime) else content)
    made._signal = request
    if url.origin() != request.url.origin():
        made.headers.popall("authorization", None)
    return made


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
        services.loop.spawn(_pump(pipe, aiter(chunks), services), "body", context)
        return

    def run() -> Any:
        return pipe.pump(aiter(chunks), _unchanged, invocation)

    invocation = Streaming(activation, run, context, "body", CURRENT.get())
    invocation.pipe = pipe
    invocation.is_waited_for = False
    end_with(pipe, invocation)
    activation.deliver(invocation)


async def _pump(pipe: Pipe, chunks: Any, services: Services) -> None:
    try:
        await pipe.pump(chunks, _unchanged, None)
    except BaseException as error:  # it is for whoever reads the body
        pipe.ended(error)
    else:
        pipe.ended(None)
    finally:
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
    detach_body(sent, activation.services, activation)
    if sent.websocket is not None:
        sent.websocket = end_of(sent.websocket)._hand_over()
    return sent
