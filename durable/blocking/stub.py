"""Stubs that wait for the answer, and what a call may return: items, functions, responses."""

from __future__ import annotations

import builtins
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

import anyio.to_thread
from multidict import CIMultiDict
from yarl import URL

import durable
from durable._model.messages import Redirect

from .crossing import Wrapper, inward, outward
from .loop_thread import LoopThread

T = TypeVar("T", bound=durable.DurableObject)
R = TypeVar("R")
P = ParamSpec("P")

Body = bytes | str | Iterable[bytes] | None


class Stub(Wrapper[durable.Stub[T]]):
    """Calls one object and waits for the result: `stub.increment()`, `stub.fetch(url)`, and `for`
    over a method that is an async generator.

    As `durable.Stub`, without `await`, and from any thread; raises what awaiting that would raise.
    Ctrl-C ends the waiting, while the call happens all the same.
    """

    __slots__ = ()

    @property
    def id(self) -> durable.ObjectId:
        return self._inner.id

    @property
    def name(self) -> str | None:
        """The name that the id was made from, if it was."""
        return self._inner.name

    @property
    def rpc(self) -> Any:
        """The stub itself. It has no type of its own, since the methods of the class are to be
        awaited for type checkers; `call` is exact."""
        return self

    @overload
    def call(
        self,
        method: Callable[Concatenate[T, P], AsyncIterator[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Stream[R]: ...
    @overload
    def call(
        self, method: Callable[Concatenate[T, P], Awaitable[R]], /, *args: Any, once: str
    ) -> R: ...
    @overload
    def call(
        self,
        method: Callable[Concatenate[T, P], Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R: ...
    @overload
    def call(
        self, method: Callable[Concatenate[T, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> R: ...
    def call(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        """Call a method by what it is in the class: `stub.call(Counter.add, 5)`, with exact types.
        `once=` is as with `durable.Stub.call`."""
        return self._ask(self._inner.call, *args, **kwargs)

    def fetch(
        self,
        request: str | URL | durable.Request,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        redirect: Redirect | None = None,
    ) -> Response:
        """Send a request to the object's `fetch`. A *body* that is an iterable of bytes is iterated
        in a thread."""
        sent = body if body is None or isinstance(body, bytes | str) else _in_thread(body)
        response = self._ask(
            self._inner.fetch,
            request,
            method=method,
            headers=headers,
            body=sent,
            redirect=redirect,
        )
        return cast("Response", response)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._ask, getattr(self._inner, name))

    def _ask(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        thread = self._thread
        if args or kwargs:
            args = tuple([inward(arg) for arg in args])
            kwargs = {name: inward(arg) for name, arg in kwargs.items()}
        return outward(thread, thread.ask(fn, *args, **kwargs))


class Stream(Wrapper[durable.Stream[R]], Generic[R]):
    """The items of a method that is an async generator, one by one: `for item in stub.ticks(3)`.

    A loop that is left early ends the generator, as soon as the stream is dropped; `close()` does
    it at once, and so does `with stub.ticks(3) as ticks:`.
    """

    __slots__ = ()

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:
        try:
            item = self._thread.ask(self._inner.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None
        return cast("R", outward(self._thread, item))

    def close(self) -> None:
        """End the generator; returns when it has ended."""
        self._thread.ask(self._inner.aclose)

    def __enter__(self) -> Stream[R]:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class RemoteFunction(Wrapper[durable.RemoteFunction]):
    """A function that an object has sent: `function(...)` runs it there and waits."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        thread = self._thread
        args = tuple([inward(arg) for arg in args])
        kwargs = {name: inward(arg) for name, arg in kwargs.items()}
        return outward(thread, thread.ask(self._inner, *args, **kwargs))


class Response(Wrapper[durable.Response]):
    """What an object's `fetch` has returned. The body is read once, by one of the methods."""

    __slots__ = ()

    @property
    def status(self) -> int:
        return self._inner.status

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return self._inner.ok

    @property
    def headers(self) -> CIMultiDict[str]:
        return self._inner.headers

    def text(self) -> str:
        return cast("str", self._thread.ask(self._inner.text))

    def json(self) -> Any:
        return self._thread.ask(self._inner.json)

    def bytes(self) -> builtins.bytes:
        return cast("builtins.bytes", self._thread.ask(self._inner.bytes))

    def stream(self) -> Iterator[builtins.bytes]:
        """The body, chunk by chunk, as the object makes it."""
        chunks = self._thread.ask(lambda: aiter(self._inner.stream()))
        while True:
            try:
                chunk = self._thread.ask(lambda: anext(chunks))
            except StopAsyncIteration:
                return
            yield chunk


async def _in_thread(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    """The chunks of a plain iterable, each fetched in a thread, since it may block."""
    iterator = iter(chunks)
    while (chunk := await anyio.to_thread.run_sync(next, iterator, None)) is not None:
        yield chunk


def wrap_stub(thread: LoopThread, stub: durable.Stub[T]) -> Stub[T]:
    return Stub(thread, stub)
