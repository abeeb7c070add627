"""The ASGI application: opens the store, and calls the entry function for each request."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeAlias

import anyio
from attrs import define, field

import durable
from durable import DurableError, Request, Response, Runtime, RuntimeClosed
from durable._border.bodies import detach_body
from durable._border.websocket import end_of
from durable._runtime.opening import Opening

from .incoming import BodyTooLarge, ClientGone, Incoming, Message, Receive, Scope, Send
from .refusals import Refusals
from .requests import BODY_SIZE_MAX, BadRequest, read_request, upgrade_request
from .responses import send_response
from .sockets import answer_upgrade, refuse
from .stopping import OpenStreams
from .watching import Watch

log: logging.Logger = logging.getLogger("durable")

# The status for a client that has gone: only the log of a middleware sees it.
CLIENT_CLOSED_REQUEST = 499

Entry: TypeAlias = Callable[[Request, Any], Awaitable[Response]]
"""The entry function that the application calls: `async def fetch(request, env)`."""


def app(
    fetch: Entry,
    path: str | os.PathLike[str] | None = None,
    *,
    runtime: Runtime | None = None,
    debug: bool = False,
    body_size_max: int = BODY_SIZE_MAX,
    **options: Any,
) -> Application:
    """An ASGI application that answers every request with `await fetch(request, env)`.

    Give *path* and further *options* as `durable.open` takes them, such as *bindings* and *vars*:
    the application opens the store in its lifespan, or, mounted where no lifespan reaches it, at
    the first request. Or give a *runtime* that is open already.

    A request to an overloaded object is answered with 503, any other failure with 500; with *debug*
    the response shows the traceback. A larger body than *body_size_max* is answered with 413.
    """
    if not callable(fetch):
        raise TypeError(f"app() takes an async function of a request and env, not {fetch!r}")
    if runtime is not None:
        if path is not None or options:
            raise TypeError("app() takes a path to open a store, or an open runtime, not both")
        if not isinstance(runtime, Runtime):
            raise TypeError(
                f"app() takes a runtime that is open, as `async with durable.open(...)` gives it, "
                f"not {runtime!r}"
            )
        return Application(fetch, None, runtime, debug, body_size_max)
    if path is None:
        raise TypeError("app() needs the path of a store to open, or an open runtime")
    place = os.fspath(path)
    durable.open(place, **options)  # a wrong argument raises now, and not at the first request
    return Application(fetch, lambda: durable.open(place, **options), None, debug, body_size_max)


@define(eq=False)
class Application:
    """The ASGI application that `durable.asgi.app` returns."""

    _entry: Entry
    _make_store: Callable[[], Opening] | None
    _runtime: Runtime | None
    _debug: bool
    _body_size_max: int
    _store: Opening | None = field(default=None, init=False)
    _is_closed: bool = field(default=False, init=False)
    # The first version of this application, which has the store.
    _first: Application | None = field(default=None, init=False)
    _opening: anyio.Lock = field(factory=anyio.Lock, init=False)
    _streams: OpenStreams = field(factory=OpenStreams, init=False)
    _refusals: Refusals = field(factory=Refusals, init=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind == "http":
            await self._answer_http(scope, receive, send)
        elif kind == "websocket":
            await self._answer_websocket(scope, receive, send)
        elif kind == "lifespan":
            await self._live(receive, send)
        else:
            raise RuntimeError(f"durable.asgi serves http, websocket and lifespan, not {kind!r}")

    # The store

    async def open(self) -> Runtime:
        """The open runtime; opens the store if that has not been done."""
        if self._first is not None:
            return await self._first.open()
        self._leave_ended_loop()
        if self._runtime is None:
            async with self._opening:
                if self._runtime is None:
                    await self._open()
        assert self._runtime is not None
        return self._runtime

    async def _open(self) -> None:
        assert self._make_store is not None
        if self._is_closed:
            raise RuntimeClosed
        store = self._make_store()
        # Shielded: the first request may be cancelled, but the store is for all.
        with anyio.CancelScope(shield=True):
            self._runtime = await store.__aenter__()
        self._store = store

    def _leave_ended_loop(self) -> None:
        """Forget a store whose event loop has ended: the new one that is opened takes it over.

        Without a lifespan it is never closed; Starlette's TestClient, outside of a `with`, has an
        event loop for each request.
        """
        if self._store is not None and self._store._is_left:
            self._store = self._runtime = None
            self._streams, self._refusals = OpenStreams(), Refusals()

    def _succeed(self, before: Application) -> Runtime | None:
        """Replace *before*, the version until now, and use its store, which its opener closes.

        Returns the runtime if the store is open. For `durable serve --reload`.
        """
        self._first = before._first or before
        self._runtime = self._first._runtime
        return self._runtime

    async def aclose(self) -> None:
        """Close the store, if this application has opened it."""
        self._refusals.log()
        store, self._store = self._store, None
        if store is not None:
            self._runtime = None
            self._is_closed = True
            await store.__aexit__(None, None, None)

    @asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """For the framework that this is mounted in: `FastAPI(lifespan=ours.lifespan)`."""
        self._is_closed = False
        await self.open()
        try:
            yield
        finally:
            await self.aclose()

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            if (await receive())["type"] == "lifespan.startup":
                self._is_closed = False
                try:
                    await self.open()
                except Exception as error:
                    log.error("the store could not be opened: %s", error)
                    await send({"type": "lifespan.startup.failed", "message": str(error)})
                    return
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    # Requests

    async def _answer_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_started = False

        async def send_and_note(message: Message) -> None:
            nonlocal has_started
            await send(message)
            has_started = True

        runtime = self._runtime
        if runtime is not None and not runtime._services.loop.is_here():
            self._leave_ended_loop()
        incoming = Incoming(receive, self._body_size_max)
        with Watch(incoming, self._runtime) as watch:
            try:
                response = await self._respond(scope, incoming, watch)
                # After this the response is half sent. An early end shows the client that it is
                # incomplete, and the server logs the error.
                await self._send(response, send_and_note, scope)
            except ClientGone:
                pass
        if incoming.is_gone and not has_started:
            # Only a middleware sees it, such as Starlette's, which takes an application without a
            # response for a broken one.
            with suppress(Exception):
                gone = Response(status=CLIENT_CLOSED_REQUEST)
                await send_response(gone, send, is_head=False, kind="http.response")

    async def _send(self, response: Response, send: Send, scope: Scope) -> None:
        opened: anyio.CancelScope | None = None

        def on_open(ending: anyio.CancelScope, is_of_events: bool) -> None:
            nonlocal opened
            opened = ending
            assert self._runtime is not None
            self._streams.add(ending, self._runtime, is_of_events=is_of_events)

        is_head = scope["method"] == "HEAD"
        try:
            await send_response(
                response, send, is_head=is_head, kind="http.response", on_open=on_open
            )
        finally:
            if opened is not None:
                self._streams.remove(opened)

    async def _respond(self, scope: Scope, incoming: Incoming, watch: Watch) -> Response:
        """The response to a request, whatever happens."""
        try:
            if self._runtime is None:
                watch.begin(await self.open())
            request = await read_request(scope, incoming)
            watch.notify(request)
            response = await self._call(request)
            if response.websocket is not None:
                end_of(response.websocket).drop()
                return Response("Upgrade Required", status=426, headers={"upgrade": "websocket"})
        except Exception as error:
            return self._failure(error, scope)
        else:
            return response

    async def _answer_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        try:
            response = await self._call(upgrade_request(scope))
        except Exception as error:
            await refuse(self._failure(error, scope), scope, send)
            return
        await answer_upgrade(response, scope, receive, send)

    async def _call(self, request: Request) -> Response:
        runtime = self._runtime
        if runtime is None or not runtime._services.loop.is_here():
            runtime = await self.open()
        response: object = await self._entry(request, runtime.env)
        if not isinstance(response, Response):
            raise TypeError(
                f"the entry function must return a durable.Response, not {type(response).__name__}"
            )
        response._check_unused()
        # Its chunks are made in a task of its own, which can end all scopes that it is in.
        detach_body(response, runtime._services, None)
        return response

    def _failure(self, error: Exception, scope: Scope) -> Response:
        """The response for *error*; logs an error that is not the client's."""
        if isinstance(error, ClientGone):
            raise error
        if isinstance(error, BadRequest):
            return Response(f"Bad Request: {error}", status=400)
        if isinstance(error, BodyTooLarge):
            return Response("Content Too Large", status=413, headers={"connection": "close"})
        what = f"{scope.get('method', 'websocket')} {scope['path']}"
        if isinstance(error, DurableError) and error.overloaded:
            self._refusals.add(what, error, self._runtime)
            return Response("Service Unavailable", status=503, headers={"retry-after": "1"})
        log.error("%s failed", what, exc_info=error)
        text = (
            "".join(traceback.format_exception(error)) if self._debug else "Internal Server Error"
        )
        return Response(text, status=500)
