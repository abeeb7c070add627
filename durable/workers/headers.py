"""Headers, as JavaScript has them, and as the SDK passes them to Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from http.client import HTTPMessage
from typing import Any, ClassVar

from multidict import CIMultiDict

from .javascript import JsException, JsProxy, JsTypeError, js_text
from .js_collections import JsArray, JsObject

# The header that may occur several times, and is not joined.
_APART = "set-cookie"


class Headers(JsProxy):
    """Headers of JavaScript: names in lower case, several of one name joined by a comma."""

    js_name: ClassVar[str] = "Headers"

    def __init__(self, init: Any = None, **more: Any) -> None:
        self._fields: CIMultiDict[str] = CIMultiDict()
        for name, value in (*_pairs(init), *more.items()):
            self.append(name, value)

    @classmethod
    def over(cls, fields: CIMultiDict[str]) -> Headers:
        """Headers over those of a message, so that changes here are changes there."""
        made = cls()
        made._fields = fields
        return made

    @property
    def fields(self) -> CIMultiDict[str]:
        return self._fields

    def get(self, name: str) -> str | None:
        found = self._fields.getall(name, [])
        return ", ".join(found) if found else None

    def getSetCookie(self) -> JsArray:
        return JsArray(self._fields.getall(_APART, []))

    def getAll(self, name: str) -> JsArray:
        return JsArray(self._fields.getall(name, []))

    def has(self, name: str) -> bool:
        return name in self._fields

    def set(self, name: str, value: Any) -> None:
        self._fields[name] = js_text(value)

    def append(self, name: str, value: Any) -> None:
        self._fields.add(name, js_text(value))

    def delete(self, name: str) -> None:
        self._fields.popall(name, None)

    def entries(self) -> JsArray:
        return JsArray(JsArray(pair) for pair in self._listed())

    def keys(self) -> JsArray:
        return JsArray(name for name, _ in self._listed())

    def values(self) -> JsArray:
        return JsArray(value for _, value in self._listed())

    def items(self) -> list[tuple[str, str]]:
        return list(self._listed())

    def forEach(self, fn: Callable[..., Any]) -> None:
        for name, value in self._listed():
            fn(value, name)

    def _listed(self) -> Iterator[tuple[str, str]]:
        for name in sorted({name.lower() for name in self._fields}):
            found = self._fields.getall(name)
            if name == _APART:
                yield from ((name, value) for value in found)
            else:
                yield name, ", ".join(found)

    def __iter__(self) -> Iterator[JsArray]:
        return iter(self.entries())

    def __contains__(self, name: object) -> bool:
        return name in self._fields

    def __getitem__(self, name: str) -> str:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found


def _pairs(init: Any) -> Iterable[tuple[str, Any]]:
    if init is None:
        return ()
    if isinstance(init, Headers):
        return init.fields.items()
    if isinstance(init, HTTPMessage):
        return init.items()
    if isinstance(init, JsObject):
        return init.as_object_map().items()
    if isinstance(init, Mapping):
        return init.items()
    if isinstance(init, Iterable) and not isinstance(init, str):
        try:
            return [(name, value) for name, value in init]
        except (TypeError, ValueError):
            pass
    raise JsTypeError(f"headers must be an object or a list of pairs, not {init!r}")


def sdk_headers(given: Any) -> Headers:
    """The headers that Python passes: a dict, a list of pairs, or JavaScript's. The SDK accepts
    nothing else."""
    if isinstance(given, Headers | HTTPMessage | Mapping | list | JsArray | JsObject):
        try:
            return Headers(given)
        except ValueError as error:
            raise JsException(str(error), name="TypeError") from error
    raise TypeError("Received unexpected type for headers argument")


def as_message(headers: Headers) -> HTTPMessage:
    """A copy of the headers, as the SDK gives them."""
    made = HTTPMessage()
    for name, value in headers.items():
        made.add_header(name, value.strip())
    return made
