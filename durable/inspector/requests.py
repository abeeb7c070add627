"""What a request asks for, and whether it is allowed.

Rule: without the token a request learns nothing of the store. The page sends it in a header, which
no other site can make a browser do; and a change must, besides, come from the page itself, as the
browser reports.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, Final, TypedDict
from urllib.parse import parse_qs, urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

# A value takes up to 2 MiB, and several times that as JSON.
BODY_SIZE_MAX: Final = 16 << 20


class Refused(Exception):
    """A request that is refused: its status, and why."""

    status: int
    why: str

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class OfObject(TypedDict):
    """The arguments by which a view of one object takes it."""

    cls: str
    name_or_id: str


class Parameters:
    """The parameters of a question, or the members of a change."""

    def __init__(self, given: dict[str, Any]) -> None:
        self._given = given

    def get(self, name: str) -> str | None:
        value = self._given.get(name)
        if value is None or isinstance(value, str):
            return value
        raise Refused(400, f"{name!r} must be a string")

    def need(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise Refused(400, f"the parameter {name!r} is missing")
        return value

    def of_object(self) -> OfObject:
        """The parameters that name an object, as a view of one takes them. Raises Refused."""
        return {"cls": self.need("class"), "name_or_id": self.need("id")}


def parameters_of(scope: Scope) -> Parameters:
    """The parameters in the address; the last one of those with one name."""
    asked = parse_qs(scope["query_string"].decode("ascii", "replace"), keep_blank_values=True)
    return Parameters({name: values[-1] for name, values in asked.items()})


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers by their names in lower case."""
    return {name.lower(): value for name, value in scope["headers"]}


def path_of(scope: Scope) -> str:
    """The path below that of the application."""
    root = root_of(scope)
    path: str = scope["path"]
    # Some servers leave the prefix out of the path.
    if root and (path == root or path.startswith(f"{root}/")):
        path = path.removeprefix(root)
    return path


def root_of(scope: Scope) -> str:
    """Where the application is mounted; empty at the root."""
    root: str = scope.get("root_path", "")
    return root.rstrip("/")


def check_host(headers: dict[bytes, bytes], hosts: Collection[str] | None) -> None:
    """Refuse other host names: another site may have its own name resolve to this machine."""
    if hosts is None:
        return
    name = headers.get(b"host", b"").decode("latin-1").lower()
    if not name.endswith("]"):
        name = name.rpartition(":")[0] or name
    if name.strip("[]") not in hosts:
        raise Refused(421, "the inspector does not answer to this host name")


def check_token(headers: dict[bytes, bytes], token: bytes) -> None:
    given = headers.get(b"authorization", b"")
    if not secrets.compare_digest(given, b"Bearer " + token):
        raise Refused(401, "the token is missing, or is not the one that the program printed")


def check_same_site(headers: dict[bytes, bytes]) -> None:
    """Refuse a request that a browser sends for another site's page, even one with the token."""
    host = headers.get(b"host", b"").decode("latin-1").lower()
    origin = headers.get(b"origin")
    if origin is not None and urlsplit(origin.decode("latin-1")).netloc.lower() != host:
        raise Refused(403, "a change must come from the page of the inspector itself")
    if headers.get(b"sec-fetch-site", b"same-origin") not in {b"same-origin", b"none"}:
        raise Refused(403, "a change must come from the page of the inspector itself")
    if headers.get(b"content-type", b"").split(b";")[0].strip().lower() != b"application/json":
        raise Refused(415, "a change is sent as application/json")


async def members_of(receive: Receive) -> Parameters:
    """The members of the one JSON object that a request's body is."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the request was not sent to its end")
        body += message.get("body", b"")
        if len(body) > BODY_SIZE_MAX:
            raise Refused(413, f"a change has at most {BODY_SIZE_MAX:,} bytes")
        if not message.get("more_body"):
            break
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise Refused(400, "a change is one JSON object") from None
    if not isinstance(given, dict):
        raise Refused(400, "a change is one JSON object")
    return Parameters(given)
