"""The inspector as an ASGI application: a page, its questions, and two streams of events.

Rule: whoever has not the token is told nothing of the store. The page sends it in a header, which
no other site can make a browser do, and no answer may be read, framed or kept by another site.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, MutableMapping
from functools import partial
from importlib.resources import files
from typing import Any, Final
from urllib.parse import parse_qs, quote

import anyio

from durable._model.errors import DurableError
from durable._runtime.runtime import Runtime
from durable.operate import Store

from . import views
from .sources import FolderSource, RuntimeSource, Source, ask

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PAGES: Final = {
    "/": ("index.html", b"text/html; charset=utf-8"),
    "/inspector.js": ("inspector.js", b"text/javascript; charset=utf-8"),
    "/inspector.css": ("inspector.css", b"text/css; charset=utf-8"),
}
HEADERS: Final = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
JSON: Final = b"application/json"
TOKEN_SIZE_MIN: Final = 16
# A stream says something at least so often, so that a page knows that it lives.
BEAT_S: Final = 15.0


def app(
    store: Runtime | str | os.PathLike[str],
    *,
    token: str,
    hosts: Collection[str] | None = None,
) -> Inspector:
    """The inspector of a store, which whoever has *token* may look into.

    *store* is a runtime of the program, or the folder of a store that any program may have open.
    *token* has at least 16 characters; make one with `secrets.token_urlsafe()`. *hosts* are the
    names under which it may be asked; without them any.

    It reads and never writes, and wakes no object. Raises ValueError for a token that is too short.
    """
    if not isinstance(token, str):
        raise TypeError(f"the token must be a str, not {type(token).__name__}")
    if len(token) < TOKEN_SIZE_MIN:
        raise ValueError(
            f"the token must have at least {TOKEN_SIZE_MIN} characters, since it is all that keeps "
            f"strangers out; make one with secrets.token_urlsafe()"
        )
    source: Source = RuntimeSource(store) if isinstance(store, Runtime) else FolderSource(store)
    return Inspector(source, token, hosts)


class Refused(Exception):
    """A request that is not answered: its status, and why."""

    status: int
    why: str

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class Inspector:
    """Made by `app`; an ASGI application."""

    def __init__(self, source: Source, token: str, hosts: Collection[str] | None) -> None:
        self._source = source
        self._token = token.encode()
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1_008})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._answer(scope, receive, send)
        except Refused as refused:
            await _send_json(send, {"error": refused.why}, refused.status)
        except (DurableError, ValueError, OSError) as error:
            await _send_json(send, {"error": str(error), "kind": type(error).__name__}, 422)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        self._check_host(headers.get(b"host", b""))
        root = scope.get("root_path", "").rstrip("/")
        path = scope["path"]
        # Some servers leave the prefix out of the path.
        if root and (path == root or path.startswith(f"{root}/")):
            path = path.removeprefix(root)
        if scope["method"] not in {"GET", "HEAD"}:
            raise Refused(405, "the inspector is only looked at: GET")
        if not path:
            # Else what the page asks for would be looked for beside it.
            await _send(send, 307, [(b"location", f"{quote(root)}/".encode())], b"")
            return
        if path in PAGES:
            name, kind = PAGES[path]
            body = files(__package__).joinpath("page", name).read_bytes()
            await _send(send, 200, [(b"content-type", kind)], body)
            return
        if not path.startswith("/api/"):
            raise Refused(404, "there is no such page")
        given = headers.get(b"authorization", b"")
        if not secrets.compare_digest(given, b"Bearer " + self._token):
            raise Refused(401, "the token is missing, or is not the one that the program printed")
        asked = parse_qs(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
        await self._answer_question(path, _Asked(asked), receive, send)

    def _check_host(self, host: bytes) -> None:
        """Another site may have its own name point here."""
        if self._hosts is None:
            return
        name = host.decode("latin-1").lower()
        if not name.endswith("]"):
            name = name.rpartition(":")[0] or name
        if name.strip("[]") not in self._hosts:
            raise Refused(421, "the inspector is not asked under this name")

    async def _answer_question(
        self, path: str, asked: _Asked, receive: Receive, send: Send
    ) -> None:
        if path == "/api/reports":
            await _stream(self._source.reports(), receive, send)
        elif path == "/api/events":
            await _stream(self._source.events(), receive, send)
        else:
            await _send_json(send, await ask(self._source, _question(path, asked)))


class _Asked:
    """The parameters of a question."""

    def __init__(self, given: dict[str, list[str]]) -> None:
        self._given = given

    def get(self, name: str) -> str | None:
        values = self._given.get(name)
        return values[-1] if values else None

    def need(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise Refused(400, f"the parameter {name!r} is missing")
        return value


def _question(path: str, asked: _Asked) -> Callable[[Store], dict[str, Any]]:
    match path:
        case "/api/overview":
            return views.overview
        case "/api/objects":
            return partial(
                views.objects,
                cls=asked.need("class"),
                prefix=asked.get("prefix") or "",
                after=asked.get("after"),
            )
        case "/api/object":
            return partial(
                views.one_object,
                cls=asked.need("class"),
                name_or_id=asked.need("id"),
                prefix=asked.get("prefix") or "",
                start=asked.get("start"),
            )
        case "/api/tables":
            return partial(views.tables, cls=asked.need("class"), name_or_id=asked.need("id"))
        case "/api/rows":
            return partial(
                views.rows,
                cls=asked.need("class"),
                name_or_id=asked.need("id"),
                query=asked.need("query"),
            )
        case "/api/alarms":
            return views.alarms
    raise Refused(404, "there is no such question")


# Sending


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    size = (b"content-length", b"%d" % len(body))
    await send(
        {"type": "http.response.start", "status": status, "headers": [*HEADERS, *headers, size]}
    )
    await send({"type": "http.response.body", "body": body})


async def _send_json(send: Send, what: Any, status: int = 200) -> None:
    body = json.dumps(what, ensure_ascii=False).encode("utf-8", "backslashreplace")
    await _send(send, status, [(b"content-type", JSON)], body)


async def _stream(said: AsyncIterator[dict[str, Any]], receive: Receive, send: Send) -> None:
    """What is said, as server-sent events, until the page leaves."""
    first = await anext(said, None)  # what is wrong is an answer of its own
    kind = (b"content-type", b"text/event-stream; charset=utf-8")
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, kind]})

    async def leave() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        group.cancel_scope.cancel()

    async def beat() -> None:
        while True:
            await anyio.sleep(BEAT_S)
            await send({"type": "http.response.body", "body": b": \n\n", "more_body": True})

    async def tell(what: dict[str, Any]) -> None:
        body = b"data: " + json.dumps(what, default=str).encode() + b"\n\n"
        await send({"type": "http.response.body", "body": body, "more_body": True})

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(leave)
            group.start_soon(beat)
            if first is not None:
                await tell(first)
                async for what in said:
                    await tell(what)
            group.cancel_scope.cancel()
    finally:
        close = getattr(said, "aclose", None)
        if close is not None:
            with anyio.CancelScope(shield=True):
                await close()
    await send({"type": "http.response.body", "body": b""})
