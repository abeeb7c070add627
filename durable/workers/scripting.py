"""Globals of JavaScript that are not classes: console, Object, crypto, timers."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar

from .buffers import TypedArray, Uint8Array, bytes_of
from .crossing import outward, to_javascript
from .javascript import JsProxy, JsTypeError, callable_of, js_text, to_py
from .js_collections import JsArray, JsMap, JsObject
from .promises import Promise, settled, started


class Object(JsProxy):
    """The global of this name; `Object.fromEntries` is the `dict_converter` of `to_js`."""

    @classmethod
    def new(cls, *args: Any, **entries: Any) -> Any:
        return JsObject(**entries)

    @staticmethod
    def fromEntries(entries: Iterable[Any]) -> JsObject:
        pairs = entries.items() if isinstance(entries, dict | JsMap) else entries
        return JsObject({js_text(key): value for key, value in pairs})

    @staticmethod
    def keys(value: Any) -> JsArray:
        return JsArray(_entries_of(value))

    @staticmethod
    def values(value: Any) -> JsArray:
        return JsArray(_entries_of(value).values())

    @staticmethod
    def entries(value: Any) -> JsArray:
        return JsArray(JsArray(pair) for pair in _entries_of(value).items())

    @staticmethod
    def assign(target: Any, *sources: Any) -> Any:
        for source in sources:
            _entries_of(target).update(_entries_of(source))
        return target


def _entries_of(value: Any) -> dict[str, Any]:
    if isinstance(value, JsObject):
        return value.as_object_map()
    if isinstance(value, JsArray):
        return {str(at): item for at, item in enumerate(value)}
    if isinstance(value, dict):
        return value
    raise JsTypeError(f"an object is needed here, not {value!r}")


class Console(JsProxy):
    """Prints: errors and warnings to the standard error, the rest to the standard output."""

    js_name: ClassVar[str] = "console"

    def log(self, *values: Any) -> None:
        print(*map(_shown, values))

    def info(self, *values: Any) -> None:
        self.log(*values)

    def debug(self, *values: Any) -> None:
        self.log(*values)

    def error(self, *values: Any) -> None:
        print(*map(_shown, values), file=sys.stderr)

    def warn(self, *values: Any) -> None:
        self.error(*values)

    def trace(self, *values: Any) -> None:
        self.error(*values)


def _shown(value: Any) -> str:
    if isinstance(value, JsObject | JsArray):
        return json.dumps(to_py(value), default=str, ensure_ascii=False)
    return js_text(value)


class Crypto(JsProxy):
    """Random numbers. The rest of `crypto` is in Python's own libraries."""

    js_name: ClassVar[str] = "Crypto"

    def randomUUID(self) -> str:
        return str(uuid.uuid4())

    def getRandomValues(self, array: TypedArray) -> TypedArray:
        raw = array.buffer.to_memoryview()
        raw[:] = os.urandom(raw.nbytes)
        return array


class Performance(JsProxy):
    js_name: ClassVar[str] = "Performance"
    timeOrigin: ClassVar[float] = 0.0

    def now(self) -> float:
        return time.time() * 1000


class TextEncoder(JsProxy):
    js_name: ClassVar[str] = "TextEncoder"
    encoding: ClassVar[str] = "utf-8"

    def encode(self, text: str = "") -> Uint8Array:
        return Uint8Array(text.encode())


class TextDecoder(JsProxy):
    js_name: ClassVar[str] = "TextDecoder"

    def __init__(self, encoding: str = "utf-8", *_: Any, **__: Any) -> None:
        self.encoding: str = encoding

    def decode(self, content: Any = b"") -> str:
        return (bytes_of(content) or b"").decode(self.encoding, errors="replace")


class Scheduler(JsProxy):
    js_name: ClassVar[str] = "Scheduler"

    def wait(self, ms: float = 0, options: Any = None) -> Promise:
        return started(asyncio.sleep(ms / 1000))


# Timers. Their tasks belong to the object that has started them, as those of `asyncio.sleep` do.

_timers: dict[int, asyncio.Task[None]] = {}


def setTimeout(fn: Callable[..., Any], ms: float = 0, *args: Any) -> int:
    """Call *fn* after so many milliseconds."""
    return _begin(_call_after(callable_of(fn), ms, args))


def setInterval(fn: Callable[..., Any], ms: float = 0, *args: Any) -> int:
    """Call *fn* again and again."""

    async def repeat() -> None:
        while True:
            await _call_after(callable_of(fn), ms, args)

    return _begin(repeat())


async def _call_after(fn: Callable[..., Any], ms: float, args: tuple[Any, ...]) -> None:
    await asyncio.sleep(max(0.0, ms) / 1000)
    await settled(fn(*args))


def _begin(work: Awaitable[None]) -> int:
    task = asyncio.ensure_future(work)
    number = id(task)
    _timers[number] = task
    task.add_done_callback(lambda _: _timers.pop(number, None))
    return number


def clearTimeout(number: int | None = None) -> None:
    task = _timers.pop(number, None) if number is not None else None
    if task is not None:
        task.cancel()


clearInterval = clearTimeout


def queueMicrotask(fn: Callable[[], Any]) -> None:
    async def call() -> None:
        await asyncio.sleep(0)
        await settled(callable_of(fn)())

    started(call())


def atob(text: str) -> str:
    return base64.b64decode(text).decode("latin-1")


def btoa(text: str) -> str:
    return base64.b64encode(text.encode("latin-1")).decode()


def structuredClone(value: Any, options: Any = None) -> Any:
    return to_javascript(outward(value))
