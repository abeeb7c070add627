"""Request and Response, in the shape of the web standard (WHATWG Fetch).

Rule: bad arguments raise where the message is made. What making one costs is on the path of every
call, so a URL that is plainly good is parsed when asked for, and so are headers that nobody gave.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self, TypeAlias

from attrs import define
from multidict import CIMultiDict
from yarl import URL

from .body import Body, BodyInit
from .websocket import WebSocket

HeadersInit: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]] | None
"""What headers can be made of. They are copied."""

_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"})
_BODILESS_METHODS = frozenset({"GET", "HEAD"})
_NULL_BODY_STATUSES = frozenset({101, 204, 205, 304})
_REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})

# URLs of which we know without parsing that they are absolute and that yarl takes them.
_is_plain_url = re.compile(
    r"https?://[a-z0-9](?:[a-z0-9\-]*[a-z0-9])?(?:\.[a-z][a-z0-9\-]*)*(?::[0-9]{1,4})?(?:[/?#][!-~]*)?",
    re.ASCII,
).fullmatch
_is_token = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", re.ASCII).fullmatch
_has_forbidden = re.compile(r"[\r\n\0]").search


class _Message(Body):
    __slots__ = ("_content_type", "_headers")

    _headers: CIMultiDict[str] | None
    _content_type: str | None  # what to say of the body unless the headers do

    @property
    def headers(self) -> CIMultiDict[str]:
        """The headers, compared without case. They are the message's own: changing them counts."""
        if self._headers is None:
            self._headers = CIMultiDict()
            if self._content_type is not None:
                self._headers["content-type"] = self._content_type
        return self._headers

    def _set_headers(self, headers: HeadersInit, content_type: str | None) -> None:
        self._content_type = content_type
        self._headers = None
        if headers is not None:
            self._headers = _copied(headers)
            if content_type is not None:
                self._headers.setdefault("content-type", content_type)


@define(eq=False, init=False, repr=False)
class Request(_Message):
    """A request to an object. The URL must be absolute; its host means nothing to an object.

    Raises TypeError or ValueError for what no request can be.
    """

    method: str
    _url: URL | str

    def __init__(
        self,
        url: str | URL,
        *,
        method: str = "GET",
        headers: HeadersInit = None,
        body: BodyInit = None,
    ) -> None:
        self._url = url if type(url) is str and _is_plain_url(url) else _parsed(url)
        self.method = method if method in _METHODS else _normalised(method)
        if body is not None and self.method in _BODILESS_METHODS:
            raise TypeError(
                f"Request with a GET or HEAD method cannot have a body; give a method beside the "
                f"body of {self._url}, such as method='POST'"
            )
        self._set_headers(headers, self._set_content(body))

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
class Response(_Message):
    """An answer to a request.

    Raises TypeError or ValueError for what no response can be.
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
        if status != 200 or type(status) is not int or websocket is not None:
            _check_status(status, body, websocket)
        self.status = status
        self.websocket = websocket
        self._set_headers(headers, self._set_content(body))

    @classmethod
    def from_json(cls, value: Any, *, status: int = 200, headers: HeadersInit = None) -> Self:
        """A response with *value* as JSON. Raises what `json.dumps` raises."""
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        response = cls(text, status=status)
        response._set_headers(headers, "application/json")
        return response

    @classmethod
    def redirect(cls, url: str | URL, status: int = 302) -> Self:
        """A response that sends the caller on to *url*."""
        if status not in _REDIRECT_STATUSES:
            raise ValueError(
                f"{status!r} is not a redirect status code (301, 302, 303, 307 or 308)"
            )
        return cls(status=status, headers={"location": str(_parsed(url))})

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
    # As on the web, only the well-known ones are told apart without case.
    upper = method.upper()
    return upper if upper in _METHODS else method


def _copied(headers: HeadersInit) -> CIMultiDict[str]:
    copy: CIMultiDict[str] = CIMultiDict()
    assert headers is not None
    try:
        pairs = [(name, value) for name, value in _pairs(headers)]
    except (TypeError, ValueError):
        raise TypeError(
            f"headers must be a mapping or an iterable of pairs of str, not {headers!r}"
        ) from None
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"a header must be a name and a value of str, not {name!r}: {value!r}")
        if not _is_token(name):
            raise ValueError(f"{name!r} is not a valid header name")
        value = value.strip(" \t\r\n")
        if _has_forbidden(value):
            raise ValueError(f"the value of header {name!r} has a line break or NUL in it")
        copy.add(name, value)
    return copy


def _pairs(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    return headers.items() if isinstance(headers, Mapping) else headers


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
    if body is not None and status in _NULL_BODY_STATUSES:
        raise TypeError(
            f"Response with null body status (101, 204, 205, or 304) cannot have a body; {status} "
            f"was given"
        )
