"""The call of an object's `fetch`, and its answer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any
from weakref import ref

from durable._gates.futures import Answer, PendingAnswer, when_done
from durable._model.errors import WebSocketClosed
from durable._model.messages import REDIRECT_STATUSES, Redirect, Request, Response
from durable._object.invocation import Invocation, itself

from .redirects import OneTime, Resends, follow


class FetchAnswer(PendingAnswer[Response]):
    """An answer to `fetch`, of an object of this process or of another one.

    Tasks that the handler has started know the call as long as they live. So the call does not keep
    a web socket that its caller has taken: when the caller drops it, it is gone. The same holds
    when the caller has given up, and no other task awaits the answer when it comes.
    """

    # Of the subclasses: a class can have one base with slots.
    __slots__ = ()

    awaiting: int  # how many tasks do; not set before the first
    # What following a redirect takes, see `redirects`.
    request: Request
    resends: Resends
    content: bytes | OneTime | None
    redirect: Redirect
    hops: int
    followed: Answer[Response]

    def abort(self) -> None:
        """No task waits for the response any more."""
        self.request.signal._abort()

    def __await__(self) -> Generator[Any, Any, Response]:
        answer: Any
        if self._is_done and self._error is None:  # as most are that are awaited at once
            answer = self._value
        else:
            answer = yield from self._wait()
        response: Response | None = answer() if type(answer) is ref else answer
        if response is None:
            raise WebSocketClosed("the answer was awaited before, and its socket dropped since")
        if response.websocket is not None:
            self._keep_weakly(response)
        if response.status in REDIRECT_STATUSES and self.redirect != "manual":
            followed = follow(self, response)
            if followed is not None:
                return (yield from followed.__await__())
        return response

    def _wait(self) -> Generator[Any, Any, Any]:
        self.awaiting = getattr(self, "awaiting", 0) + 1
        try:
            answer: Any = yield from super().__await__()
        except BaseException:
            self.awaiting -= 1
            if not self.awaiting and not self._is_done:
                self.abort()
            when_done(self, self._given_up)
            raise
        self.awaiting -= 1
        return answer

    def _given_up(self) -> None:
        if not self.awaiting and self._error is None and not isinstance(self._value, ref):
            self._keep_weakly(self._value)

    def _keep_weakly(self, response: Response) -> None:
        if response.websocket is not None:
            taken: Any = ref(response)
            self._value = taken


FETCH_SLOTS = ("awaiting", "content", "followed", "hops", "redirect", "request", "resends")
"""The slots of a FetchAnswer, for its subclasses."""


class FetchCall(FetchAnswer, Invocation[Response]):
    """A call of `fetch`, and its answer."""

    __slots__ = FETCH_SLOTS

    def begin(self) -> Any:
        body = self.body
        return self.activation.handle_fetch(self.request) if body is itself else body()

    def _fetch(self) -> Any:
        return self.activation.handle_fetch(self.request)

    def watch(self, watched: Callable[[Callable[[], Any]], Callable[[], Any]]) -> None:
        self.body = watched(self._fetch if self.body is itself else self.body)
