"""Request and Response as `workers` has them: Python's faces of JavaScript's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPMethod, HTTPStatus
from http.client import HTTPMessage
from typing import Any, cast

import durable

from . import blobs, messages
from .buffers import ArrayBuffer, JsBuffer
from .crossing import inward
from .headers import as_message, sdk_headers
from .javascript import JsException, JsProxy
from .json_text import JSON
from .sdk_forms import Blob, FormData, form_object
from .streams import ReadableStream
from .urls import URLSearchParams

# Values that JavaScript accepts as a body.
_BODIES = (
    *(JsBuffer, blobs.Blob, blobs.FormData, ReadableStream, URLSearchParams),
    messages.Response,
)


@contextmanager
def _errors_of_python() -> Iterator[None]:
    """JavaScript's TypeError and RangeError as the exceptions that the SDK raises."""
    try:
        yield
    except JsException as error:
        cls = {"RangeError": ValueError, "TypeError": TypeError}.get(error.name)
        if cls is None:
            raise
        raise cls(error.message) from error


class _Message:
    """The common part."""

    _js: messages.Request | messages.Response

    @property
    def headers(self) -> HTTPMessage:
        """A copy, by names compared without case."""
        return as_message(self._js.headers)

    @property
    def body(self) -> ReadableStream | None:
        return self._js.body

    @property
    def body_used(self) -> bool:
        return self._js.bodyUsed

    def _raise_if_failed(self) -> None:
        if self.body_used:
            raise OSError("Body already used")

    async def buffer(self) -> ArrayBuffer:
        self._raise_if_failed()
        return ArrayBuffer(await self._js.read())

    async def bytes(self) -> bytes:
        self._raise_if_failed()
        return await self._js.read()

    async def text(self) -> str:
        self._raise_if_failed()
        return cast("str", await self._js.text())

    async def blob(self) -> Blob:
        self._raise_if_failed()
        return Blob(await self._js.blob())

    async def form_data(self) -> FormData:
        self._raise_if_failed()
        with _errors_of_python():
            return FormData(await self._js.formData())

    async def _json(self, **options: Any) -> Any:
        return json.loads(await self.text(), **options)


class Request(_Message):
    """A request; its `url` is a str."""

    def __init__(self, input: Any, **other_options: Any) -> None:
        if isinstance(input, messages.Request):
            if other_options:
                raise ValueError("Expected no options when constructing Request from a js.Request")
            self._js_request = input
        else:
            self._js_request = messages.Request(
                getattr(input, "js_object", input), request_options(other_options)
            )

    @property
    def _js(self) -> messages.Request:  # type: ignore[override]
        return self._js_request

    @property
    def js_object(self) -> messages.Request:
        return self._js_request

    @property
    def url(self) -> str:
        return self._js_request.url

    @property
    def method(self) -> HTTPMethod:
        return HTTPMethod[self._js_request.method]

    @property
    def cf(self) -> Any:
        """Cloudflare's data on the client: empty here, unless it was given."""
        return self._js_request.cf

    @property
    def redirect(self) -> str:
        return self._js_request.redirect

    @property
    def cache(self) -> str:
        return "default"

    @property
    def credentials(self) -> str:
        return "same-origin"

    @property
    def mode(self) -> str:
        return "cors"

    @property
    def destination(self) -> str:
        return ""

    @property
    def integrity(self) -> str:
        return ""

    @property
    def referrer(self) -> str:
        return "about:client"

    @property
    def referrer_policy(self) -> str:
        return ""

    @property
    def keepalive(self) -> bool:
        return False

    @property
    def is_history_navigation(self) -> bool:
        return False

    async def json(self, **options: Any) -> Any:
        return await self._json(**options)

    def clone(self) -> Request:
        self._raise_if_failed()
        return Request(self._js_request.clone())

    def __repr__(self) -> str:
        return f"Request(method={self._js_request.method!r}, url={self.url!r})"


def request_options(options: dict[str, Any]) -> dict[str, Any]:
    """Options from Python, converted for JavaScript."""
    made = dict(options)
    if isinstance(made.get("method"), HTTPMethod):
        made["method"] = made["method"].value
    if made.get("headers") is not None:
        made["headers"] = sdk_headers(made["headers"])
    made["body"] = form_object(made.get("body"))
    return made


class FetchResponse(_Message):
    """A response that has arrived."""

    def __init__(self, url: str, js_response: messages.Response, *_: Any, **__: Any) -> None:
        self.js_response: messages.Response = js_response

    @property
    def _js(self) -> messages.Response:  # type: ignore[override]
        return self.js_response

    @property
    def js_object(self) -> messages.Response:
        return self.js_response

    @property
    def status(self) -> int:
        return self.js_response.status

    @property
    def status_text(self) -> str:
        return self.js_response.statusText

    @property
    def ok(self) -> bool:
        return self.js_response.ok

    @property
    def url(self) -> str:
        return self.js_response.url

    @property
    def redirected(self) -> bool:
        return self.js_response.redirected

    @property
    def type(self) -> str:
        return self.js_response.type

    async def string(self) -> str:
        return await self.text()

    async def memoryview(self) -> memoryview:
        return memoryview(await self.bytes())

    async def formData(self) -> FormData:
        return await self.form_data()

    def raise_for_status(self) -> None:
        if 400 <= self.status < 600:
            raise OSError(f"{self.status} {self.status_text} for url: {self.url}")

    def clone(self) -> Response:
        self._raise_if_failed()
        return Response(self.js_response.clone())

    def replace_body(self, body: Any) -> Response:
        """The same response with another body."""
        return Response(messages.Response(form_object(body), self.js_response))

    @staticmethod
    def redirect(url: str, status: HTTPStatus | int = HTTPStatus.FOUND) -> Any:
        """A redirect, as JavaScript's Response."""
        with _errors_of_python():
            return messages.Response.redirect(url, int(status))

    @staticmethod
    def from_json(
        value: Any,
        status: HTTPStatus | int = HTTPStatus.OK,
        status_text: str = "",
        headers: Any = None,
    ) -> Response:
        """A response with *value* as JSON. Raises what `json.dumps` raises."""
        text = JSON.stringify(value) if isinstance(value, JsProxy) else json.dumps(value)
        made = sdk_headers(headers if headers is not None else {})
        if not made.has("content-type"):
            made.set("content-type", "application/json")
        return Response(text, status, status_text, made)

    def json(self, *args: Any, **options: Any) -> Any:
        """The body as JSON, to be awaited. `Response.json(value)` of the class is `from_json`."""
        if isinstance(self, FetchResponse):
            return self._json()
        return FetchResponse.from_json(self, *args, **options)


class Response(FetchResponse):
    """A response; *web_socket* is passed on with a status of 101."""

    def __init__(
        self,
        body: Any = None,
        status: HTTPStatus | int | None = None,
        status_text: str = "",
        headers: Any = None,
        web_socket: Any = None,
    ) -> None:
        if isinstance(body, JsProxy):
            if not isinstance(body, _BODIES):
                raise TypeError(f"Unsupported type in Response: {body.js_name}")
        elif body is not None and not isinstance(body, str | bytes | FormData | Blob):
            raise TypeError(f"Unsupported type in Response: {type(body).__name__}")
        if isinstance(body, messages.Response):
            if status is not None or status_text or headers is not None:
                raise ValueError(
                    "Expected no options when constructing Response from a js.Response"
                )
            super().__init__(body.url, body)
            return
        options: dict[str, Any] = {"webSocket": web_socket}
        if status:
            options["status"] = int(status)
        if status_text:
            options["statusText"] = status_text
        if headers:
            options["headers"] = sdk_headers(headers)
        made = messages.Response(form_object(body), options)
        super().__init__(made.url, made)

    def __repr__(self) -> str:
        parts = [f"status={self.status}"]
        if self.status_text:
            parts.append(f"status_text={self.status_text!r}")
        if "content-type" in self.headers:
            parts.append(f"content_type={self.headers['content-type']!r}")
        if self.url:
            parts.append(f"url={self.url!r}")
        return f"Response({', '.join(parts)})"


@inward.register
def _request_in(value: durable.Request) -> Request:
    return Request(messages.Request.over(value))


@inward.register
def _response_in(value: durable.Response) -> Response:
    return Response(messages.Response.over(value))


def response_sent(value: Any) -> durable.Response:
    """The library's response for one that a handler has returned, of any kind."""
    found = getattr(value, "js_object", value)
    if isinstance(found, messages.Response):
        return found.sent()
    if isinstance(found, durable.Response):
        return found
    raise TypeError(
        f"the handler must return a Response, not {type(value).__name__}: return "
        f"workers.Response(…)"
    )
