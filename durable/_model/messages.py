"""Request and Response, in the shape of the web standard (WHATWG Fetch).

Rule: bad arguments raise where the message is made. Making one is on the path of every call, so a
URL that is plainly good is parsed when it is read, and headers are made when they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal, NoReturn, Self, TypeAlias

from attrs import define
from yarl import URL

from .body import BodyInit
from .cookies import LONG_AGO, SameSite, cookie_header, read_cookies
from .headers import HeadersInit
from .message import Message
from .signal import Signal
from .websocket import WebSocket

Redirect: TypeAlias = Literal["follow", "manual", "error"]
"""What `stub.fetch` does with a redirect: follow it, return it, or raise."""

_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_BODILESS_METHODS = frozenset({"GET", "HEAD"})
_NULL_BODY_STATUSES = frozenset({101, 204, 205, 304})
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
_REDIRECTS = frozenset({"follow", "manual", "error"})

_new = object.__new__

# URLs that are known without parsing to be absolute and accepted by yarl.
_is_plain_url = re.compile(
    r"https?://[a-z0-9]++(?:-++[a-z0-9]++)*(?:\.[a-z][a-z0-9\-]*+)*(?::[0-9]{1,4})?(?:[/?#][!-~]*+)?",
    re.ASCII,
).fullmatch
_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII).fullmatch


@define(eq=False, init=False, repr=False)
class Request(Message):
    """A request to an object. The URL must be absolute; its host means nothing to an object.

    Given another request in place of the URL, it is a copy of that with the other arguments
    replacing its parts; that one's body counts as read then, unless *body* is given.
    *redirect*: what `stub.fetch` does with a response that redirects to another URL.

    Raises TypeError or ValueError for an invalid request.
    """

    method: str
    redirect: Redirect
    _url: URL | str
    # Made when it is needed: until then, the request that this one was made of, whose caller is
    # this one's too.
    _signal: Signal | Request | None

    def __init__(
        self,
        url: str | URL | Request,
        *,
        method: str | None = None,
        headers: HeadersInit = None,
        body: BodyInit = None,
        redirect: Redirect | None = None,
    ) -> None:
        if type(url) is str and _is_plain_url(url):
            self._url = url
        elif isinstance(url, Request):
            self._make_of(url, method, headers, body, redirect)
            return
        else:
            self._url = _parsed(url)
        if method in _METHODS:
            self.method = method
        else:
            self.method = "GET" if method is None else _normalised(method)
        self.redirect = "follow" if redirect is None else _known_redirect(redirect)
        self._signal = None
        if body is None and headers is None:
            self._be_empty()
            return
        if body is not None and self.method in _BODILESS_METHODS:
            self._refuse_body()
        self._set_headers(headers, self._set_content(body))

    def _make_of(
        self,
        other: Request,
        method: str | None,
        headers: HeadersInit,
        body: BodyInit,
        redirect: Redirect | None,
    ) -> None:
        self._url = other._url
        self.method = other.method if method is None else _normalised(method)
        self.redirect = other.redirect if redirect is None else _known_redirect(redirect)
        self._signal = other
        if body is None:
            other._check_unused("Cannot reconstruct a Request with a used body.")
        has_new_body = body is not None or (method is not None and other._content is not None)
        if has_new_body and self.method in _BODILESS_METHODS:
            self._refuse_body()
        content_type = self._set_content(body)
        if headers is None:
            other._copy_headers(self)
            if content_type is not None:
                self.headers.setdefault("content-type", content_type)
        else:
            self._set_headers(headers, content_type)
        if body is None:  # taken once nothing can fail any more
            self._put(other._hand_over_body())

    def _refuse_body(self) -> NoReturn:
        raise TypeError(
            f"Request with a GET or HEAD method cannot have a body; give a method beside the "
            f"body of {self._url}, such as method='POST'"
        )

    @property
    def signal(self) -> Signal:
        """Set when the caller has gone and no code waits for the response any more."""
        signal = self._signal
        if not isinstance(signal, Signal):
            signal = self._signal = Signal(None if signal is None else signal.signal)
        return signal

    def _parts(self) -> list[Any]:
        """The parts of the request, except its body and its signal, as plain values."""
        return [str(self._url), self.method, *self._header_parts(), self.redirect]

    @classmethod
    def _of_parts(cls, parts: list[Any]) -> Request:
        """The request with these parts. Raises TypeError or ValueError for invalid ones."""
        url, method, headers, content_type, redirect, *_ = parts
        made = cls(url, method=method, redirect=redirect)
        made._set_header_parts(headers, content_type)
        return made

    @property
    def cookies(self) -> Mapping[str, str]:
        """The cookies that the client has sent, as they were written: a value that was quoted to be
        set has to be unquoted. Of two with one name the first, which is the more specific."""
        return read_cookies(self.headers.getall("cookie", ()))

    def clone(self) -> Request:
        """A copy of the request, with a body that is read on its own.

        Chunks of a streamed body that only one of the two has read are kept in memory for the
        other. Raises TypeError if the body was read.
        """
        content = self._tee()
        copy = Request(self._url, method=self.method, redirect=self.redirect)
        self._copy_headers(copy)
        copy._put(content)
        copy._signal = self
        return copy

    @property
    def url(self) -> URL:
        url = self._url
        if type(url) is str:
            url = self._url = URL(url)
        assert isinstance(url, URL)
        return url

    def __repr__(self) -> str:
        return f"<Request {self.method} {self._url}>"


@define(eq=False, init=False, repr=False)
class Response(Message):
    """The response to a request.

    Raises TypeError or ValueError for an invalid response.
    """

    status: int
    websocket: WebSocket | None

    def __init__(
        self,
        body: BodyInit = None,
        *,
        status: int = 200,
        headers: HeadersInit = None,
        websocket: WebSocket | None = None,
    ) -> None:
        if (
            websocket is not None
            or type(status) is not int
            or not 200 <= status <= 599
            or (body is not None and status in _NULL_BODY_STATUSES)
        ):
            _check_status(status, body, websocket)
            if status in _NULL_BODY_STATUSES:
                body = None
        self.status = status
        self.websocket = websocket
        if body is None and headers is None:
            self._be_empty()
        else:
            self._set_headers(headers, self._set_content(body))

    @classmethod
    def from_json(cls, value: Any, *, status: int = 200, headers: HeadersInit = None) -> Self:
        """A response with *value* as JSON. Raises what `json.dumps` raises."""
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        response = cls(text, status=status)
        response._set_headers(headers, "application/json")
        return response

    def set_cookie(
        self,
        name: str,
        value: str = "",
        *,
        max_age: int | timedelta | None = None,
        expires: datetime | None = None,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
        httponly: bool = False,
        samesite: SameSite | None = "lax",
        partitioned: bool = False,
    ) -> None:
        """Add a `set-cookie` header, beside those that are there.

        *max_age*, in seconds or as a timedelta, and *expires* say how long the browser keeps it;
        without them, until it is closed. Raises TypeError and ValueError for what a cookie cannot
        have (a value has no space, comma, semicolon, quote or backslash and is ASCII:
        `urllib.parse.quote` writes any text so), and for what browsers would silently drop.
        """
        header = cookie_header(
            name,
            value,
            max_age=max_age,
            expires=expires,
            path=path,
            domain=domain,
            secure=secure,
            httponly=httponly,
            samesite=samesite,
            partitioned=partitioned,
        )
        self.headers.add("set-cookie", header)

    def delete_cookie(
        self,
        name: str,
        *,
        path: str | None = "/",
        domain: str | None = None,
        secure: bool = False,
    ) -> None:
        """Let the browser forget a cookie that was set with this *path* and *domain*."""
        self.set_cookie(name, max_age=0, expires=LONG_AGO, path=path, domain=domain, secure=secure)

    @classmethod
    def redirect(cls, url: str | URL, status: int = 302) -> Self:
        """A response that redirects the caller to *url*."""
        if status not in REDIRECT_STATUSES:
            raise ValueError(
                f"{status!r} is not a redirect status code (301, 302, 303, 307 or 308)"
            )
        return cls(status=status, headers={"location": str(_parsed(url))})

    def clone(self) -> Response:
        """A copy of the response, with a body that is read on its own.

        Chunks of a streamed body that only one of the two has read are kept in memory for the
        other. Raises TypeError if the body was read, or if the response carries a WebSocket.
        """
        if self.websocket is not None:
            raise TypeError("Cannot clone a response to a WebSocket handshake.")
        content = self._tee()
        copy = Response(status=self.status)
        self._copy_headers(copy)
        copy._put(content)
        return copy

    def _parts(self) -> list[Any]:
        """The parts of the response, except its body and its socket, as plain values."""
        return [self.status, *self._header_parts()]

    @classmethod
    def _of_parts(cls, parts: list[Any], websocket: WebSocket | None) -> Response:
        """The response with these parts. Raises TypeError or ValueError for invalid ones."""
        status, headers, content_type, *_ = parts
        made = cls(status=status, websocket=websocket)
        made._set_header_parts(headers, content_type)
        return made

    def _handed_over(self) -> Response:
        """The response for its receiver; this one's body counts as read. TypeError if it was."""
        copy: Response = _new(Response)
        self._give_all_to(copy)
        copy.status = self.status
        copy.websocket = self.websocket
        return copy

    @property
    def ok(self) -> bool:
        """Whether the status is in the range 200–299."""
        return 200 <= self.status <= 299

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


def _parsed(url: object) -> URL:
    if not isinstance(url, str | URL):
        raise TypeError(f"a URL must be a str or a yarl.URL, not {type(url).__name__}")
    try:
        parsed = URL(url)
        if parsed.absolute and parsed.scheme and parsed.host:
            return parsed
    except ValueError:
        pass
    raise TypeError(
        f"Fetch API cannot load: {url}. The URL must be absolute, as in https://object/path"
    )


def _normalised(method: object) -> str:
    if not isinstance(method, str):
        raise TypeError(f"a method must be a str, not {type(method).__name__}")
    if not _is_token(method):
        raise TypeError(f"{method!r} is not a valid HTTP method")
    # As on the web, only the well-known ones are compared without case.
    upper = method.upper()
    return upper if upper in _METHODS else method


def _check_status(status: object, body: object, websocket: WebSocket | None) -> None:
    if isinstance(status, bool) or not isinstance(status, int):
        raise TypeError(f"a status must be an int, not {status!r}")
    if not isinstance(websocket, WebSocket | None):
        raise TypeError(f"a response's websocket must be a WebSocket, not {websocket!r}")
    if websocket is not None and status != 101:
        raise ValueError(
            f"Responses with a WebSocket must have status code 101, not {status}; give status=101"
        )
    if not 200 <= status <= 599 and not (status == 101 and websocket is not None):
        raise ValueError(
            f"The status provided ({status}) is outside the range [200, 599]; only 101 is allowed "
            f"beside it, together with a websocket"
        )
    if status in _NULL_BODY_STATUSES and not (body is None or _is_empty(body)):
        raise TypeError(
            f"Response with null body status (101, 204, 205, or 304) cannot have a body; {status} "
            f"was given"
        )


def _is_empty(body: object) -> bool:
    return isinstance(body, str | bytes | bytearray | memoryview) and not len(body)


def _known_redirect(redirect: Redirect) -> Redirect:
    if redirect not in _REDIRECTS:
        raise TypeError(
            f'Invalid redirect value, must be one of "follow", "manual" or "error", not '
            f"{redirect!r}"
        )
    return redirect
