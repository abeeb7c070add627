"""Events of JavaScript: their listeners, and how they are dispatched."""

from __future__ import annotations

from collections.abc import Callable
from inspect import isawaitable
from typing import Any, ClassVar

from .javascript import JsProxy, callable_of
from .js_collections import JsObject, options_of
from .promises import settled, started


class Listeners:
    """The listeners, by the kind of event."""

    def __init__(self) -> None:
        self._by_kind: dict[str, dict[Any, bool]] = {}

    def add(self, kind: str, fn: Any, *, once: bool = False) -> None:
        self._by_kind.setdefault(kind, {})[fn] = once

    def remove(self, kind: str, fn: Any) -> None:
        self._by_kind.get(kind, {}).pop(fn, None)

    def dispatch(self, kind: str, event: JsObject) -> None:
        """Call the listeners; asynchronous ones go on by themselves."""
        for fn, once in list(self._by_kind.get(kind, {}).items()):
            if once:
                self.remove(kind, fn)
            result = callable_of(fn)(event)
            if isawaitable(result):
                started(settled(result))

    def __bool__(self) -> bool:
        return any(self._by_kind.values())


class EventTarget(JsProxy):
    """An object that has listeners: by `addEventListener`, or by `onmessage` and the like."""

    js_name: ClassVar[str] = "EventTarget"
    _kinds: ClassVar[tuple[str, ...]] = ()

    @property
    def listeners(self) -> Listeners:
        raise NotImplementedError

    def listened(self) -> None:
        """Called when a listener is added."""

    def addEventListener(
        self, kind: str, fn: Callable[..., Any], options: Any = None, **more: Any
    ) -> None:
        given = {} if isinstance(options, bool) else options_of(options, more)
        self.listeners.add(kind, fn, once=bool(given.get("once")))
        self.listened()

    def removeEventListener(self, kind: str, fn: Callable[..., Any], options: Any = None) -> None:
        self.listeners.remove(kind, fn)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("on") and name[2:] in self._kinds:
            self.addEventListener(name[2:], value)
        else:
            object.__setattr__(self, name, value)


def event(kind: str, **fields: Any) -> JsObject:
    """An event as its listeners get it."""
    return JsObject({"type": kind, **fields})
