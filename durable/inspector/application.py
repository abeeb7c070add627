"""The inspector as an ASGI application: a page, its questions, two streams of events, and changes.

Rule: a change is made by a POST to `/api/change`, which `requests` has checked, and in no other
way; and only if the application was opened with *write*.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from functools import partial
from importlib.resources import files
from typing import Any, Final
from urllib.parse import quote

from durable import operate
from durable._model.errors import DurableError
from durable._runtime.runtime import Runtime
from durable.operate import Store

from . import history, views
from .changes import change_of, result_of
from .requests import (
    Parameters,
    Receive,
    Refused,
    Scope,
    check_host,
    check_same_site,
    check_token,
    headers_of,
    members_of,
    parameters_of,
    path_of,
    root_of,
)
from .responses import Send, send_body, send_json, send_stream
from .sources import FolderSource, RuntimeSource, Source, ask

KINDS: Final = {
    ".html": b"text/html; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
}
TOKEN_SIZE_MIN: Final = 16


def app(
    store: Runtime | str | os.PathLike[str],
    *,
    token: str,
    hosts: Collection[str] | None = None,
    write: bool = False,
) -> Inspector:
    """The inspector of a store, for the holders of *token*.

    *store* is a runtime of the program, or the folder of a store that any program may have open.
    *token* has at least 16 characters; make one with `secrets.token_urlsafe()`. *hosts* are the
    host names that requests may be addressed to; without them any.

    It wakes no object, and changes nothing without *write*. With it, a holder of the token may
    store and delete values, run alarms, evict objects and reset them, each through the program that
    has the store.

    Raises ValueError for a token that is too short; FileNotFoundError, StoreDamaged, FormatTooNew
    for a folder that cannot be looked into.
    """
    if not isinstance(token, str):
        raise TypeError(f"the token must be a str, not {type(token).__name__}")
    if len(token) < TOKEN_SIZE_MIN:
        raise ValueError(
            f"the token must have at least {TOKEN_SIZE_MIN} characters, since it is all that keeps "
            f"strangers out; make one with secrets.token_urlsafe()"
        )
    if not token.isascii() or not token.isprintable():
        raise ValueError("the token must be printable ASCII, since it is sent in a header")
    if isinstance(hosts, str):
        raise TypeError(f"hosts must be several names, such as {{{hosts!r}}}, not one str")
    return Inspector(_source_of(store), token, hosts, write=write)


def _source_of(store: object) -> Source:
    if isinstance(store, Runtime):
        return RuntimeSource(store)
    if not isinstance(store, str | os.PathLike):
        raise TypeError(
            f"the inspector shows a runtime, as durable.open() returns it, or the folder of a "
            f"store, not {store!r}"
        )
    with operate.look(store):  # raises now if it cannot be looked into
        pass
    return FolderSource(store)


class Inspector:
    """The ASGI application that `app` returns."""

    def __init__(
        self, source: Source, token: str, hosts: Collection[str] | None, *, write: bool
    ) -> None:
        self._source = source
        self._token = token.encode()
        self._hosts = None if hosts is None else {host.lower() for host in hosts}
        self._may_write = write

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
            await send_json(send, {"error": refused.why}, refused.status)
        except (DurableError, ValueError, OSError) as error:
            await send_json(send, {"error": str(error), "kind": type(error).__name__}, 422)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = headers_of(scope)
        check_host(headers, self._hosts)
        path = path_of(scope)
        if path == "/api/change":
            check_token(headers, self._token)
            await self._change(scope, headers, receive, send)
            return
        if scope["method"] not in {"GET", "HEAD"}:
            raise Refused(405, "this address takes GET only")
        if not path:
            # Without the slash, relative addresses in the page would miss the mount point.
            await send_body(send, 307, [(b"location", f"{quote(root_of(scope))}/".encode())], b"")
            return
        if not path.startswith("/api/"):
            await _send_page(path, send)
            return
        check_token(headers, self._token)
        await self._answer_question(path, parameters_of(scope), receive, send)

    async def _answer_question(
        self, path: str, asked: Parameters, receive: Receive, send: Send
    ) -> None:
        source = self._source
        if path == "/api/reports":
            await send_stream(source.reports(), receive, send)
        elif path == "/api/events":
            await send_stream(source.events(), receive, send)
        elif path == "/api/about":
            await send_json(send, {"path": source.path, "may_write": self._may_write})
        elif path == "/api/processes":
            await send_json(send, await source.processes())
        elif path == "/api/memory":
            await send_json(send, await source.in_memory(**asked.of_object()))
        else:
            await send_json(send, await ask(source, _question(path, asked)))

    async def _change(
        self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send
    ) -> None:
        if scope["method"] != "POST":
            raise Refused(405, "a change is sent by POST")
        check_same_site(headers)
        if not self._may_write:
            raise Refused(
                403,
                "the inspector was opened to look only: start it by `durable inspect --write`, or "
                "make it by inspector.app(..., write=True)",
            )
        change = change_of(await members_of(receive))
        await send_json(send, result_of(change, await self._source.change(change)))


def _question(path: str, asked: Parameters) -> Callable[[Store], dict[str, Any]]:
    match path:
        case "/api/overview":
            return views.overview
        case "/api/objects":
            return partial(
                views.objects,
                cls=asked.need("class"),
                prefix=asked.get("prefix") or "",
                after=asked.get("after"),
                order=asked.get("order"),
                beyond=asked.get("beyond"),
            )
        case "/api/object":
            return partial(
                views.one_object,
                **asked.of_object(),
                prefix=asked.get("prefix") or "",
                start=asked.get("start"),
            )
        case "/api/value":
            return partial(
                views.one_value,
                **asked.of_object(),
                key=asked.need("key"),
            )
        case "/api/history":
            return partial(history.history, **asked.of_object())
        case "/api/changes":
            return partial(
                history.changes,
                **asked.of_object(),
                start=asked.need("start"),
                end=asked.get("end"),
            )
        case "/api/tables":
            return partial(views.tables, **asked.of_object())
        case "/api/rows":
            return partial(
                views.rows,
                **asked.of_object(),
                query=asked.need("query"),
            )
        case "/api/alarms":
            return views.alarms
    raise Refused(404, "there is no such question")


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def _send_page(path: str, send: Send) -> None:
    """Send one of the files of the page."""
    name = path.removeprefix("/") or "index.html"
    folder = files(__package__).joinpath("page")
    if name not in {file.name for file in folder.iterdir()}:
        raise Refused(404, "there is no such page")
    kind = KINDS.get(os.path.splitext(name)[1])
    if kind is None:
        raise Refused(404, "there is no such page")
    await send_body(send, 200, [(b"content-type", kind)], folder.joinpath(name).read_bytes())
