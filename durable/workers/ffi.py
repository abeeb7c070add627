"""`pyodide.ffi`: conversion between values of Python and JavaScript."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NoReturn

from .buffers import Uint8Array
from .errors import NotHere
from .javascript import JsDoubleProxy, JsProxy
from .js_collections import JsArray, JsMap, JsSet

Convert = Callable[..., Any]


def to_js(
    obj: Any,
    /,
    *,
    depth: int = -1,
    pyproxies: Any = None,
    create_pyproxies: bool = True,
    dict_converter: Callable[[Iterable[Any]], Any] | None = None,
    default_converter: Convert | None = None,
    eager_converter: Convert | None = None,
) -> Any:
    """*obj* as a value of JavaScript: lists and tuples as arrays, dicts as Maps or what
    *dict_converter* makes of their pairs, sets as Sets, bytes as Uint8Array."""

    def plain(value: Any) -> Any:
        return convert(value, depth)

    def convert(value: Any, left: int) -> Any:
        if eager_converter is not None:
            return eager_converter(value, lambda each: by_kind(each, left), lambda *_: None)
        return by_kind(value, left)

    def by_kind(value: Any, left: int) -> Any:
        if value is None or isinstance(value, bool | int | float | str | JsProxy) or left == 0:
            return value
        match value:
            case list() | tuple():
                return JsArray(convert(item, left - 1) for item in value)
            case dict():
                pairs = [JsArray((key, convert(item, left - 1))) for key, item in value.items()]
                return JsMap(pairs) if dict_converter is None else dict_converter(JsArray(pairs))
            case set() | frozenset():
                return JsSet(convert(item, left - 1) for item in value)
            case bytes() | bytearray() | memoryview():
                return Uint8Array(bytes(value))
        if default_converter is not None:
            return default_converter(value, plain, lambda *_: None)
        return getattr(value, "js_object", value)

    return convert(obj, depth)


def create_proxy(obj: Any, /, *, capture_this: bool = False, roundtrip: bool = True) -> Any:
    """*obj* for JavaScript to keep. Nothing needs to be destroyed here."""
    return JsDoubleProxy(obj)


def create_once_callable(obj: Callable[..., Any], /, **options: Any) -> JsDoubleProxy:
    return JsDoubleProxy(obj)


def destroy_proxies(pyproxies: Any, /) -> None:
    """Does nothing: Python's garbage collector frees everything here."""


def run_sync(awaitable: Awaitable[Any], /) -> NoReturn:
    """Not supported: Python code that is not asynchronous cannot wait."""
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()
    raise NotHere(
        "run_sync() is not available here: it suspends Python by means of the JavaScript engine; "
        "make the function async, and await"
    )


def can_run_sync() -> bool:
    return False


class ConversionError(Exception):
    """A value that cannot be converted."""


class InternalError(Exception):
    """An error of Pyodide, which is never raised here."""
