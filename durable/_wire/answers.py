"""Questions of one process to another, by name, that concern no object: its state, its shards."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import Context
from typing import Any

from durable._engine.codec import decode, encode
from durable._model.errors import DurableError

from .failures import to_failure
from .frames import Kind
from .link import Link

Function = Callable[[Any, Any], Awaitable[Any] | Any]


class Answers:
    """Answers the questions that the other side of one link asks."""

    def __init__(self, link: Link, functions: Mapping[str, Function], asker: Any) -> None:
        self._link = link
        self._functions = functions
        # The argument by which each function knows the other side.
        self._asker = asker
        link.on[Kind.ASK] = self._ask

    def _ask(self, frame: list[Any]) -> None:
        _, number, _, name, written, *_ = frame
        function = self._functions.get(name)
        if function is None:
            self._fail(number, DurableError(f"this process does not know what {name!r} is"))
            return
        try:
            value = function(self._asker, decode(written))
        except Exception as error:
            self._fail(number, error)
            return
        if hasattr(value, "__await__"):
            self._link.loop.spawn(self._wait(number, value), f"durable {name}", Context())
        else:
            self._answer(number, value)

    async def _wait(self, number: int, value: Awaitable[Any]) -> None:
        loop = self._link.loop
        try:
            self._answer(number, await value)
        except BaseException as error:
            self._fail(number, error)
            if loop.is_cancellation(error):
                raise
        finally:
            loop.ended(loop.own_task())

    def _answer(self, number: int, value: Any) -> None:
        try:
            self._link.send(Kind.ANSWER, number, encode(value))
        except Exception as error:
            self._fail(number, error)

    def _fail(self, number: int, error: BaseException) -> None:
        self._link.send(Kind.FAIL, number, to_failure(error, encode))
