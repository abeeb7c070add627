"""Stubs: how the rest of the program speaks to an object.

A call takes its place in line at the call, and happens whether or not its answer is awaited. A stub
stays with the incarnation that it has reached: once that breaks, every call of the stub raises the
reason, while an object that was merely evicted is found again.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

from yarl import URL

from durable._border.by_reference import ByReference
from durable._border.channel import Channel
from durable._border.durable_object import HANDLERS, DurableObject, rpc_method
from durable._border.once import check_once
from durable._border.streams import Stream
from durable._gates.futures import Answer
from durable._model.errors import NoSuchMethod
from durable._model.ids import ObjectId
from durable._model.messages import Redirect, Request, Response

from .class_table import ClassEntry

T = TypeVar("T", bound=DurableObject)
R = TypeVar("R")
P = ParamSpec("P")

METHODS_REMEMBERED = 256

Body = bytes | str | AsyncIterable[bytes] | None


class Stub(ByReference, Generic[T]):
    """Calls one object: `await stub.fetch(url)`, `await stub.method(...)`, and `async for` over a
    method that is an async generator.

    Arguments and results are copied. A call raises what the object's own code raises, and
    ObjectReset, ObjectAborted, ObjectOverloaded, CommitFailed, Deadlock; `stub.name` raises
    NoSuchMethod at once if it is not a public method.
    """

    __slots__ = ("__dict__", "__weakref__", "_entry", "_channel", "id")

    id: ObjectId

    def __init__(self, entry: ClassEntry[T], object_id: ObjectId) -> None:
        self._entry = entry
        self._channel: Channel | None = None
        self.id = object_id

    @property
    def name(self) -> str | None:
        """The name that the id was made from, or None."""
        return self.id.name

    @property
    def rpc(self) -> T:
        """The stub itself, as type checkers and editors know the class: `await stub.rpc.add(5)`.

        They see the methods as the class has them, so for them a plain method is not awaitable;
        `call` is exact for all. A class that has a method `rpc` of its own keeps it: then
        `stub.rpc` is that method.
        """
        if rpc_method(self._entry.cls, "rpc") is not None:
            return cast("T", self._method("rpc"))
        return cast("T", self)

    @overload
    def call(
        self,
        method: Callable[Concatenate[T, ...], Awaitable[R]],
        /,
        *args: Any,
        once: str | None,
        **kwargs: Any,
    ) -> Answer[R]: ...
    @overload
    def call(  # type: ignore[overload-overlap]
        self,
        method: Callable[Concatenate[T, ...], R],
        /,
        *args: Any,
        once: str | None,
        **kwargs: Any,
    ) -> Answer[R]: ...
    @overload
    def call(  # type: ignore[overload-overlap]
        self,
        method: Callable[Concatenate[T, P], AsyncIterator[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Stream[R]: ...
    @overload
    def call(
        self,
        method: Callable[Concatenate[T, P], Awaitable[R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Answer[R]: ...
    @overload
    def call(
        self, method: Callable[Concatenate[T, P], R], /, *args: P.args, **kwargs: P.kwargs
    ) -> Answer[R]: ...
    def call(self, *args: Any, **kwargs: Any) -> Any:  # type: ignore[misc]
        """Call a method by its function in the class: `await stub.call(Counter.add, 5)`.

        The same as `stub.add(5)`, with exact types for plain methods, async ones and generators; if
        the method is overridden, the override runs. TypeError for anything but a method of the
        class, NoSuchMethod for one that is not public. A class that has a method `call` of its own
        keeps it, and receives arguments that are not methods of the class.

        With `once="key"`, up to 255 bytes of UTF-8, the call happens once: for a day, by the
        runtime's clock, a call of this object with the same key returns the first one's result, and
        does not run the method; while that runs, it waits for it. The result is stored in the batch
        of the turn in which the method ends, with what that turn wrote. A call that raised is not
        remembered. OnceConflict for a key that another call has: another method, or other
        arguments. ResultNotKept for a result that cannot be stored; the method has run all the
        same, and does not run again. UnstorableValue, at the call, for arguments that cannot be
        stored, TypeError for an async generator. None means no key. A method that has a parameter
        `once` receives it as an argument.
        """
        name = self._name_of(args[0]) if args else None
        if name is not None:
            if "once" in kwargs and not _takes_once(getattr(self._entry.cls, name)):
                if kwargs["once"] is not None:
                    return self._call_once(name, args[1:], kwargs)
                del kwargs["once"]
            return self._method(name)(*args[1:], **kwargs)
        cls = self._entry.cls
        if rpc_method(cls, "call") is not None:
            return self._method("call")(*args, **kwargs)
        given = repr(args[0]) if args else "nothing"
        raise TypeError(
            f"call() takes a method of {cls.__name__} as the class has it, such as "
            f"{cls.__name__}.method, not {given}"
        )

    def _call_once(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Answer[Any]:
        key = check_once(kwargs.pop("once"))
        if self._method(name).func is Stub._stream:
            raise TypeError(
                f"{self._entry.cls.__name__}.{name}() is an async generator, whose items are not "
                f"kept; call it without once="
            )
        return self._reach().call_once(name, args, kwargs, key)

    def _name_of(self, method: Any) -> str | None:
        """The name of *method* in the class; None if it is not a method of it."""
        cls = self._entry.cls
        function = getattr(method, "__func__", method)
        own_name = getattr(function, "__name__", "")
        for owner in cls.__mro__ if callable(function) else ():
            if _is(vars(owner).get(own_name), function):
                return str(own_name)
        # Under another name than its own, as with decorators and aliases.
        for owner in cls.__mro__ if callable(function) else ():
            for name, found in vars(owner).items():
                if _is(found, function):
                    return name
        return None

    def fetch(
        self,
        request: str | URL | Request,
        *,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: Body = None,
        redirect: Redirect | None = None,
    ) -> Answer[Response]:
        """Send a request to the object's `fetch`, whatever its URL.

        *request* is an absolute URL, or a Request, of which the other arguments replace parts; its
        body counts as read then. A response that redirects is followed by a further request to the
        same object, up to 20 times, before it is returned; with redirect="manual" it is returned as
        it is, and with "error" it raises TypeError. The object itself sees a request whose mode is
        "manual", so that it follows no redirects when it passes the request on.

        Raises TypeError or ValueError, at the call, for an invalid request, and for one whose body
        was read.
        """
        if type(request) is not str:
            self._entry.check_open()  # before the body of a request counts as read
        if method is None and headers is None and body is None and redirect is None:
            sent = Request(request)  # to pass arguments by name costs as much as all that it does
        else:
            sent = Request(request, method=method, headers=headers, body=body, redirect=redirect)
        channel = self._channel
        if channel is None or channel.is_gone:
            channel = self._reach()
        return channel.fetch(sent, self, 0)

    def _send_on(self, request: Request, hops: int) -> Answer[Response]:
        """Follow a redirect."""
        return self._reach().fetch(request, self, hops)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = self._method(name)
        if not name.startswith("_"):
            self.__dict__[name] = method
        return method

    def _method(self, name: str) -> partial[Any]:
        cls = self._entry.cls
        function = rpc_method(cls, name)
        if function is None:
            raise no_such_method(cls, name, self.id)
        call = Stub._stream if inspect.isasyncgenfunction(function) else Stub._call
        # Not of bound methods, which would be one thing more for each method of each stub.
        return partial(call, self, name)

    def _call(self, name: str, /, *args: Any, **kwargs: Any) -> Answer[Any]:
        channel = self._channel
        if channel is None or channel.is_gone:
            channel = self._reach()
        return channel.call(name, args, kwargs)

    def _stream(self, name: str, /, *args: Any, **kwargs: Any) -> Stream[Any]:
        return self._reach().stream(name, args, kwargs)

    def _reach(self) -> Channel:
        """The channel to call by: the one used before, unless its object was evicted."""
        channel = self._channel
        if channel is None or channel.is_gone:
            channel = self._channel = self._entry.channel_of(self.id)
        return channel

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stub) and self.id == other.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> Any:
        raise TypeError("a stub cannot be pickled; send str(stub.id) and make a stub of it there")

    def __repr__(self) -> str:
        who = repr(self.id.name) if self.id.name is not None else str(self.id)
        return f"<Stub of {self._entry.cls.__name__} {who}>"


def _is(found: Any, function: Any) -> bool:
    """Whether *found*, as it stands in a class, is *function*, static and class methods too."""
    return getattr(found, "__func__", found) is function


@lru_cache(METHODS_REMEMBERED)
def _takes_once(method: Callable[..., Any]) -> bool:
    """Whether the method has a parameter `once` of its own."""
    return "once" in inspect.signature(method).parameters


def no_such_method(cls: type, name: str, object_id: ObjectId) -> NoSuchMethod:
    """The error for a *name* that cannot be called."""
    text = f'The RPC receiver does not implement the method "{name}".'
    if name in HANDLERS:
        text = f"'{name}' is a reserved method and cannot be called over RPC."
    elif hasattr(cls, name):
        text += f" {cls.__name__}.{name} is not a public method of the class."
    return NoSuchMethod(text, object_id=str(object_id))
