"""Values that pass between a Worker's Python and JavaScript: how each kind is converted.

A value that a Worker stores or sends is JavaScript's in between. So a dict has strings as keys and
comes back as a `JsDict`, bytes as a memoryview, a datetime without its zone and its microseconds,
and a tuple is refused. Here the values in between are the plain ones that objects store and send.

Rule: the files that have further kinds register them with `outward` and `inward`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import singledispatch
from inspect import isawaitable
from typing import Any

from .buffers import JsBuffer, Uint8Array, bytes_of
from .dates import JsDate, milliseconds
from .javascript import (
    JsDoubleProxy,
    JsException,
    JsNull,
    JsNumber,
    JsProxy,
    JsRegExp,
    js_key,
    number,
)
from .js_collections import JsArray, JsMap, JsObject, JsSet


class JsDict(dict[str, Any]):
    """A dict whose keys are attributes too, as objects of JavaScript arrive in Python."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


@singledispatch
def outward(value: Any) -> Any:
    """*value* of a Worker as it is stored and sent. Raises JsException or TypeError for a value
    that cannot be."""
    js_object = getattr(value, "js_object", None)
    if js_object is not None:
        return outward(js_object)
    if isawaitable(value):
        raise TypeError(f"Awaitable {type(value)} cannot be sent over RPC.")
    if isinstance(value, JsProxy) or not callable(value) or isinstance(value, type):
        raise JsException(
            f'Could not serialize object of type "{_kind(value)}". This type does not support '
            f"serialization.",
            name="DataCloneError",
        )
    return _called_from_outside(value)


def _kind(value: Any) -> str:
    return value.js_name if isinstance(value, JsProxy) else type(value).__name__


def _called_from_outside(fn: Callable[..., Any]) -> Callable[..., Any]:
    """*fn* for the other side: its arguments and its result are converted."""

    async def call(*args: Any, **kwargs: Any) -> Any:
        result = fn(*map(inward, args), **{key: inward(each) for key, each in kwargs.items()})
        return outward(await result if isawaitable(result) else result)

    call.__qualname__ = getattr(fn, "__qualname__", "function")
    return call


@outward.register(type(None))
@outward.register(bool)
@outward.register(bytes)
def _as_it_is(value: Any) -> Any:
    return value


@outward.register
def _null(value: JsNull) -> None:
    return None


@outward.register
def _of_int(value: int) -> int:
    return int(value)


@outward.register
def _of_float(value: float) -> float:
    return float(value)


@outward.register
def _of_text(value: str) -> str:
    return str.__str__(value)


@outward.register(memoryview)
@outward.register(JsBuffer)
def _of_bytes(value: Any) -> bytes:
    return bytes_of(value) or b""


@outward.register(list)
@outward.register(JsArray)
def _of_list(value: Any) -> list[Any]:
    return [outward(item) for item in value]


@outward.register(dict)
@outward.register(JsMap)
def _of_dict(value: Any) -> dict[str, Any]:
    return {js_key(key): outward(item) for key, item in value.items()}


@outward.register
def _of_object(value: JsObject) -> dict[str, Any]:
    return _of_dict(value.as_object_map())


@outward.register(set)
@outward.register(frozenset)
@outward.register(JsSet)
def _of_set(value: Any) -> set[Any]:
    return {outward(item) for item in value}


@outward.register
def _of_number(value: JsNumber) -> Any:
    return value.valueOf()


@outward.register
def _of_datetime(value: datetime) -> datetime:
    return datetime.fromtimestamp(milliseconds(value) / 1000, UTC)


@outward.register
def _of_date(value: JsDate) -> datetime:
    return value.instant


@outward.register
def _of_proxy(value: JsDoubleProxy) -> Any:
    return outward(value.unwrap())


@outward.register(Exception)
def _of_error(value: Exception) -> Exception:
    return value


@outward.register(JsRegExp)
@outward.register(tuple)
@outward.register(bytearray)
def _refused(value: Any) -> Any:
    kind = value.js_name if isinstance(value, JsRegExp) else type(value)
    raise TypeError(f"{kind} cannot be sent over RPC.")


@singledispatch
def inward(value: Any) -> Any:
    """A value that was stored or sent, as Python gets it."""
    return value


@inward.register
def _to_number(value: float) -> int | float:
    return number(value)


@inward.register
def _to_memoryview(value: bytes) -> memoryview:
    return memoryview(value)


@inward.register
def _to_error(value: Exception) -> Exception:
    return Exception(str(value))


@inward.register(list)
@inward.register(tuple)
def _to_list(value: Any) -> list[Any]:
    return [inward(item) for item in value]


@inward.register
def _to_dict(value: dict) -> JsDict:  # type: ignore[type-arg]
    return JsDict({js_key(key): inward(item) for key, item in value.items()})


@inward.register(set)
@inward.register(frozenset)
def _to_set(value: Any) -> set[Any]:
    return {inward(item) for item in value}


@inward.register
def _to_datetime(value: datetime) -> datetime:
    """Without a zone, in local time."""
    return datetime.fromtimestamp(milliseconds(value) / 1000)


def python_to_rpc(value: Any) -> Any:
    """*value* as a value of JavaScript."""
    return to_javascript(outward(value))


def python_from_rpc(value: Any) -> Any:
    """*value* of JavaScript as Python's."""
    return inward(outward(value))


def to_javascript(value: Any) -> Any:
    """A value that was stored or sent, as JavaScript has it: for what the SDK does not convert."""
    match value:
        case bytes():
            return Uint8Array(value)
        case dict():
            return JsObject({key: to_javascript(item) for key, item in value.items()})
        case list() | tuple():
            return JsArray(to_javascript(item) for item in value)
        case set() | frozenset():
            return JsSet(to_javascript(item) for item in value)
        case datetime():
            return JsDate(value)
    made = inward(value)
    return getattr(made, "js_object", made)
