"""Namespaces, ids and stubs as Cloudflare's Python has them, over the library's."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any, ClassVar

import durable

from . import messages
from .crossing import inward, outward
from .errors import errors_of_javascript, of_runtime, raised_there
from .javascript import JsException, JsProxy, JsTypeError, js_text
from .js_collections import options_of
from .promises import Promise
from .sdk_messages import request_options
from .spelling import BothCases


class DurableObjectId(BothCases, JsProxy):
    """The id of an object."""

    js_name: ClassVar[str] = "DurableObjectId"

    def __init__(self, object_id: durable.ObjectId) -> None:
        self._id = object_id

    @property
    def object_id(self) -> durable.ObjectId:
        """The library's id."""
        return self._id

    @property
    def name(self) -> str | None:
        return self._id.name

    def toString(self) -> str:
        return str(self._id)

    def equals(self, other: Any) -> bool:
        return isinstance(other, DurableObjectId) and self._id == other._id

    def __eq__(self, other: object) -> bool:
        return self.equals(other)

    def __hash__(self) -> int:
        return hash(self._id)

    def __str__(self) -> str:
        return str(self._id)


class DurableObjectNamespace(BothCases, JsProxy):
    """The objects of a class: `env.NAME`."""

    js_name: ClassVar[str] = "DurableObjectNamespace"

    def __init__(self, namespace: durable.Namespace[Any]) -> None:
        self._namespace = namespace

    def idFromName(self, name: str) -> DurableObjectId:
        return DurableObjectId(self._namespace.id_from_name(js_text(name)))

    def newUniqueId(self, options: Any = None, **more: Any) -> DurableObjectId:
        return DurableObjectId(self._namespace.new_unique_id())

    def idFromString(self, id: str) -> DurableObjectId:
        with errors_of_javascript():
            return DurableObjectId(self._namespace.id_from_string(js_text(id)))

    def get(self, id: Any, options: Any = None, **more: Any) -> DurableObjectStub:
        """A stub; options that say where the object should be have no effect here."""
        if not isinstance(id, DurableObjectId):
            raise JsTypeError(f"get() takes an id, as idFromName() makes one, not {id!r}")
        with errors_of_javascript():
            return DurableObjectStub(self._namespace.get(id.object_id))

    def getByName(self, name: str, options: Any = None, **more: Any) -> DurableObjectStub:
        return DurableObjectStub(self._namespace.get_by_name(js_text(name)))

    def jurisdiction(self, name: str | None = None) -> DurableObjectNamespace:
        """The same objects: there is one location here."""
        return self


class Fetcher(JsProxy):
    """Anything with `fetch`, and methods that are called by their names."""

    js_name: ClassVar[str] = "Fetcher"

    def fetch(self, resource: Any, init: Any = None, **options: Any) -> Promise:
        """Send a request: a URL or a Request, with options of `fetch` as keywords or an object."""
        try:
            request = request_of(resource, init, options)
            sent = request.sent()
        except (JsException, TypeError, ValueError) as error:
            return Promise.reject(error)
        url = request.url
        answer = self._send(sent)
        return Promise(answer, lambda response: response_at(response, url), self._blamed)

    def _blamed(self, error: Exception) -> BaseException:
        """The error for the caller when *error* was raised on the other side."""
        return raised_there(error)

    def _send(self, request: durable.Request) -> Any:
        raise NotImplementedError

    def _call(self, name: str, args: list[Any]) -> Any:
        raise NotImplementedError

    def __getattr__(self, name: str) -> Callable[..., Promise]:
        if name.startswith("_"):
            raise AttributeError(name)

        def call(*args: Any, **more: Any) -> Promise:
            # Keyword arguments of Python are one object at the end for JavaScript.
            sent = [outward(each) for each in (*args, *([more] if more else []))]
            try:
                answer = self._call(name, sent)
            except durable.DurableError as error:
                return Promise.reject(of_runtime(error))
            return Promise(answer, inward, self._blamed)

        call.__name__ = call.__qualname__ = name
        return call


def request_of(resource: Any, init: Any, options: dict[str, Any]) -> messages.Request:
    """The request that the arguments of a `fetch` describe."""
    given = request_options(options_of(init, options))
    found = getattr(resource, "js_object", resource)
    if isinstance(found, durable.Request):
        found = messages.Request.over(found)
    if isinstance(found, messages.Request) and not any(v is not None for v in given.values()):
        return found
    return messages.Request(found, given)


def response_at(response: durable.Response, url: str) -> Any:
    made = inward(response)
    made.js_object.url = url
    return made


class DurableObjectStub(Fetcher):
    """Calls one object: `await stub.fetch(url)`, `await stub.method(…)`."""

    js_name: ClassVar[str] = "DurableObject"

    def __init__(self, stub: durable.Stub[Any]) -> None:
        self._stub = stub

    @property
    def id(self) -> DurableObjectId:
        return DurableObjectId(self._stub.id)

    @property
    def name(self) -> str | None:
        return self._stub.name

    @property
    def stub(self) -> durable.Stub[Any]:
        """The library's stub."""
        return self._stub

    def _send(self, request: durable.Request) -> Any:
        return self._stub.fetch(request)

    def _call(self, name: str, args: list[Any]) -> Any:
        return getattr(self._stub, name)(*args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DurableObjectStub) and self._stub == other._stub

    def __hash__(self) -> int:
        return hash(self._stub)


class RpcStub(JsProxy):
    """A function of the other side: `await function(…)` runs it there."""

    js_name: ClassVar[str] = "RpcStub"

    def __init__(self, fn: Callable[..., Any]) -> None:
        self._fn = fn

    @property
    def fn(self) -> Callable[..., Any]:
        """The function that is called."""
        return self._fn

    def __call__(self, *args: Any) -> Promise:
        with errors_of_javascript():
            answer = self._fn(*[outward(each) for each in args])
        return Promise(answer, inward, raised_there)

    def __len__(self) -> int:
        raise TypeError("'RpcStub' object has no len()")

    def __bool__(self) -> bool:
        return True


@outward.register
def _stub_out(value: DurableObjectStub) -> durable.Stub[Any]:
    return value.stub


@outward.register
def _id_out(value: DurableObjectId) -> durable.ObjectId:
    return value.object_id


@outward.register
def _function_out(value: RpcStub) -> Callable[..., Any]:
    return value.fn


@inward.register(durable.Stub)
def _stub_in(value: durable.Stub[Any]) -> DurableObjectStub:
    return DurableObjectStub(value)


@inward.register
def _id_in(value: durable.ObjectId) -> DurableObjectId:
    return DurableObjectId(value)


@inward.register(FunctionType)
@inward.register(durable.RemoteFunction)
def _function_in(value: Callable[..., Any]) -> RpcStub:
    return RpcStub(value)
