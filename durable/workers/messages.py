"""Request and Response of JavaScript, over the library's."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable
from http import HTTPStatus
from typing import Any, ClassVar

import durable

from .blobs import Blob, FormData, read_form, write_form
from .buffers import ArrayBuffer, bytes_of
from .crossing import outward
from .errors import errors_of_javascript
from .headers import Headers
from .javascript import JsProxy, JsRangeError, JsTypeError
from .js_collections import options_of
from .json_text import JSON
from .promises import Later, Promise
from .sockets import WebSocket, socket_of
from .streams import ReadableStream
from .urls import URL, URLSearchParams

FORM_TYPE = "application/x-www-form-urlencoded;charset=UTF-8"


class _Message(JsProxy):
    """The common part: headers, and a body that is read once."""

    _message: Any
    _stream: ReadableStream | None = None

    @property
    def headers(self) -> Headers:
        return Headers.over(self._message.headers)

    @property
    def bodyUsed(self) -> bool:
        if self._stream is not None:
            return self._stream.locked
        return bool(self._message.body_used)

    @property
    def body(self) -> ReadableStream | None:
        if self._stream is None and self._has_body():
            self._stream = ReadableStream.over(self._message.stream())
        return self._stream

    def _has_body(self) -> bool:
        return self._message._take_stream() is not None or self._message._size > 0

    async def read(self) -> bytes:
        """The whole body."""
        if self._stream is not None:
            if self._stream.locked:
                raise JsTypeError(
                    "Body has already been used. It can only be used once. Use tee() first if you "
                    "need to read it twice."
                )
            return b"".join([chunk async for chunk in self._stream.chunks()])
        with errors_of_javascript():
            content: bytes = await self._message.bytes()
            return content

    def text(self) -> Promise:
        async def read() -> str:
            return (await self.read()).removeprefix(b"\xef\xbb\xbf").decode(errors="replace")

        return Promise(Later(read))

    def arrayBuffer(self) -> Promise:
        return Promise(Later(self.read), ArrayBuffer)

    def bytes(self) -> Promise:
        return self.arrayBuffer()

    def blob(self) -> Promise:
        kind = self.headers.get("content-type") or ""
        return Promise(Later(self.read), lambda content: Blob([content], type=kind))

    def formData(self) -> Promise:
        kind = self.headers.get("content-type")
        return Promise(Later(self.read), lambda content: read_form(content, kind))

    def _read_json(self) -> Promise:
        def parsed(content: bytes) -> Any:
            return JSON.parse(content.decode(errors="replace"))

        return Promise(Later(self.read), parsed)

    def _take_stream(self) -> None:
        """Make the stream taken of the body here the body again, for the message's receiver.

        Raises a TypeError of JavaScript if it was read.
        """
        if self._stream is not None:
            if self._stream.locked:
                raise JsTypeError("This ReadableStream is disturbed (has already been read from).")
            self._message._put(self._stream.chunks())
            self._stream = None


class _Json:
    """`json` is a method of a message, and another one of the class Response."""

    def __get__(self, message: _Message | None, cls: type) -> Callable[..., Any]:
        return _json_response if message is None else message._read_json


class Request(_Message):
    """A request."""

    js_name: ClassVar[str] = "Request"

    _message: durable.Request
    json: _Json = _Json()

    def __init__(self, url: Any, init: Any = None, **options: Any) -> None:
        given = options_of(init, options)
        content, kind = body_of(given.get("body"))
        headers = Headers(given["headers"]).fields if "headers" in given else None
        self.cf: Any = given.get("cf")
        redirect = given.get("redirect")
        if isinstance(url, Request):
            url._take_stream()
            source: Any = url._message
            self.cf = url.cf if self.cf is None else self.cf
        else:
            source = URL(url).href
        with errors_of_javascript():
            self._message = durable.Request(
                source,
                method=given.get("method"),
                headers=headers,
                body=content,
                redirect=redirect,
            )
        if kind is not None and "content-type" not in self._message.headers:
            self._message.headers["content-type"] = kind

    @classmethod
    def over(cls, request: durable.Request) -> Request:
        made = cls.__new__(cls)
        made._message = request
        made.cf = None
        return made

    @property
    def url(self) -> str:
        return URL(self._message.url).href

    @property
    def method(self) -> str:
        return self._message.method

    @property
    def redirect(self) -> str:
        return self._message.redirect

    @property
    def signal(self) -> durable.Signal:
        return self._message.signal

    def clone(self) -> Request:
        self._take_stream()
        with errors_of_javascript():
            made = Request.over(self._message.clone())
        made.cf = self.cf
        return made

    def sent(self) -> durable.Request:
        """The request for an object or another Worker; its body counts as read."""
        self._take_stream()
        with errors_of_javascript():
            return durable.Request(self._message)


class Response(_Message):
    """A response."""

    js_name: ClassVar[str] = "Response"

    _message: durable.Response
    json: _Json = _Json()

    def __init__(self, body: Any = None, init: Any = None, **options: Any) -> None:
        if isinstance(init, Response):
            init = {"status": init.status, "statusText": init.statusText, "headers": init.headers}
        given = options_of(init, options)
        content, kind = body_of(body)
        headers = Headers(given["headers"]).fields if "headers" in given else None
        status = int(given.get("status", 200))
        socket = given.get("webSocket")
        with errors_of_javascript():
            self._message = durable.Response(
                content,
                status=status,
                headers=headers,
                websocket=None if socket is None else socket_of(socket),
            )
        if kind is not None and "content-type" not in self._message.headers:
            self._message.headers["content-type"] = kind
        self.statusText: str = given.get("statusText", _phrase(status))
        self.url: str = ""

    @classmethod
    def over(cls, response: durable.Response, url: str = "") -> Response:
        made = cls.__new__(cls)
        made._message = response
        made.statusText = _phrase(response.status)
        made.url = url
        return made

    @staticmethod
    def redirect(url: Any, status: int = 302) -> Response:
        if status not in {301, 302, 303, 307, 308}:
            raise JsRangeError(f"{status} is not a redirect status code.")
        return Response(None, status=status, headers={"location": URL(url).href})

    @staticmethod
    def error() -> Response:
        raise JsTypeError("Response.error() is of no use in a Worker")

    @property
    def status(self) -> int:
        return self._message.status

    @property
    def ok(self) -> bool:
        return self._message.ok

    @property
    def type(self) -> str:
        return "default"

    @property
    def redirected(self) -> bool:
        return False

    @property
    def webSocket(self) -> WebSocket | None:
        found = self._message.websocket
        return None if found is None else WebSocket(found)

    def clone(self) -> Response:
        self._take_stream()
        with errors_of_javascript():
            made = Response.over(self._message.clone(), self.url)
        made.statusText = self.statusText
        return made

    def sent(self) -> durable.Response:
        """The response for the caller."""
        self._take_stream()
        return self._message


def _json_response(value: Any, init: Any = None, **options: Any) -> Response:
    given = options_of(init, options)
    headers = Headers(given.pop("headers", None))
    if not headers.has("content-type"):
        headers.set("content-type", "application/json")
    return Response(JSON.stringify(value), {**given, "headers": headers})


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


Content = str | bytes | AsyncIterable[bytes] | None


def body_of(body: Any) -> tuple[Content, str | None]:
    """The content of a message, and the type that goes with it if none is given."""
    match body:
        case None | str():
            return body, None
        case ReadableStream():
            return body.chunks(), None
        case Blob():
            return body.content, body.type or None
        case FormData():
            return write_form(body)
        case URLSearchParams():
            return str(body).encode(), FORM_TYPE
    found = bytes_of(body)
    return (str(body), None) if found is None else (found, None)


@outward.register
def _request_out(value: Request) -> durable.Request:
    return value.sent()


@outward.register
def _response_out(value: Response) -> durable.Response:
    return value.sent()
