"""Redirects: what an answer to `fetch` does when it is a redirect and its caller has not said to
see it.

The caller that awaits the answer follows it, so that a call costs nothing for it until then.
"""

from __future__ import annotations

import enum
from typing import Protocol

from yarl import URL

from durable._gates.futures import Answer
from durable._model.messages import Redirect, Request, Response

REDIRECTS_MAX = 20
"""How many redirects of one call are followed, as in Cloudflare's runtime."""


class OneTime(enum.Enum):
    """In place of a body that cannot be sent again: it is a stream, and is not to be kept."""

    STREAM = "stream"


class Resends(Protocol):
    """What sends the request that follows a redirect: a stub."""

    def _send_on(self, request: Request, hops: int) -> Answer[Response]:
        """Send *request*, the one after *hops* redirects, to the same object."""
        raise NotImplementedError


class SentRequest(Protocol):
    """An answer to `fetch`, of any kind, as far as redirects concern it."""

    request: Request
    # What sends again, and the body if that can be sent again.
    resends: Resends
    content: bytes | OneTime | None
    redirect: Redirect
    hops: int  # redirects before this call
    followed: Answer[Response]  # the call that it was redirected to; not set before


def is_sent(answer: SentRequest, request: Request, resends: Resends, hops: int) -> None:
    """Keep in *answer* what following a redirect takes. The object itself sees a request whose mode
    is "manual", so that it does not follow what it sends on."""
    answer.request = request
    answer.resends = resends
    content = request._content
    answer.content = content if content is None or type(content) is bytes else OneTime.STREAM
    answer.redirect = request.redirect
    answer.hops = hops
    request.redirect = "manual"


def follow(answer: SentRequest, response: Response) -> Answer[Response] | None:
    """The call that *response*, a redirect, leads to; None if it has no location header."""
    if answer.redirect == "error":
        raise TypeError(
            f"{answer.request!r} was answered with a redirect ({response.status}), and its "
            f'redirect mode is "error"; give redirect="manual" to see the response'
        )
    location = response.headers.get("location")
    if location is None:
        return None
    if not hasattr(answer, "followed"):
        hops = answer.hops + 1
        if hops > REDIRECTS_MAX:
            raise TypeError(f"Too many redirects: more than {REDIRECTS_MAX}, to {location} now")
        request = redirected(answer.request, answer.content, response.status, location)
        answer.followed = answer.resends._send_on(request, hops)
    return answer.followed


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
