"""Promises: the results of asynchronous calls of JavaScript, which take effect at the call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Iterable
from inspect import isawaitable
from typing import Any, ClassVar

from durable import Answer

from .javascript import JsProxy
from .js_collections import JsArray

Convert = Callable[[Any], Any]


class Promise(JsProxy, Answer[Any]):
    """The result of a call that has been made: await it, or drop it; `then` as in JavaScript.

    *answer* is awaited, *convert* makes the result of its value, *blame* the error to raise.
    """

    js_name: ClassVar[str] = "Promise"

    def __init__(
        self,
        answer: Any,
        convert: Convert | None = None,
        blame: Callable[[Exception], BaseException] | None = None,
    ) -> None:
        self._answer = answer
        self._convert = convert
        self._blame = blame

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            value = yield from self._answer.__await__()
        except Exception as error:
            if self._blame is None:
                raise
            blamed = self._blame(error)
            if blamed is error:
                raise
            raise blamed from error
        return value if self._convert is None else self._convert(value)

    def then(
        self, on_value: Callable[..., Any] | None = None, on_error: Callable[..., Any] | None = None
    ) -> Promise:
        async def follow() -> Any:
            try:
                value = await self
            except Exception as error:
                if on_error is None:
                    raise
                return await settled(on_error(error))
            return value if on_value is None else await settled(on_value(value))

        return started(follow())

    def catch(self, on_error: Callable[..., Any]) -> Promise:
        return self.then(None, on_error)

    def finally_(self, at_end: Callable[[], Any]) -> Promise:
        async def follow() -> Any:
            try:
                return await self
            finally:
                await settled(at_end())

        return started(follow())

    @staticmethod
    def resolve(value: Any = None) -> Promise:
        return Promise(Settled(value))

    @staticmethod
    def reject(reason: BaseException) -> Promise:
        return Promise(Settled(error=reason))

    @staticmethod
    def all(awaitables: Iterable[Any]) -> Promise:
        waiting = [settled(each) for each in awaitables]
        return Promise(asyncio.gather(*waiting), JsArray)

    def __repr__(self) -> str:
        return "[object Promise]"


class Settled:
    """A result, or an error, that has come already."""

    def __init__(self, value: Any = None, error: BaseException | None = None) -> None:
        self._value = value
        self._error = error

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._error is not None:
            raise self._error
        return self._value
        yield


async def settled(value: Any) -> Any:
    """*value*, or its result if it is awaitable."""
    return await value if isawaitable(value) else value


def started(work: Awaitable[Any]) -> Promise:
    """Starts *work*, whether or not it is awaited."""
    task = asyncio.ensure_future(work)
    _running.add(task)
    task.add_done_callback(_running.discard)
    return Promise(task)


# An event loop does not keep its tasks alive.
_running: set[asyncio.Future[Any]] = set()


class Later:
    """Work that begins when it is awaited."""

    def __init__(self, begin: Callable[[], Awaitable[Any]]) -> None:
        self._begin = begin

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._begin().__await__()
