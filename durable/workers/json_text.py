"""JSON of JavaScript: `JSON.parse` and `JSON.stringify`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from .dates import JsDate
from .javascript import JsException, JsNull, JsNumber, JsProxy, JsTypeError, callable_of, number
from .js_collections import JsArray, JsMap, JsObject, JsSet


class JSON(JsProxy):
    """The global of this name."""

    @staticmethod
    def parse(text: Any, reviver: Callable[..., Any] | None = None) -> Any:
        """Objects as `JsObject`, arrays as `JsArray`."""
        try:
            found = json.loads(
                str(text), object_hook=JsObject, parse_float=lambda t: number(float(t))
            )
        except ValueError as error:
            raise JsException(str(error), name="SyntaxError") from None
        return _arrays(found)

    @staticmethod
    def stringify(value: Any, replacer: Any = None, space: Any = None) -> str | None:
        if value is None or (callable(value) and not isinstance(value, JsProxy)):
            return None
        seen = callable_of(replacer) if replacer is not None else None
        plain = _plain(value if seen is None else seen("", value), seen)
        separators = (",", ":") if space is None else (",", ": ")
        return json.dumps(plain, indent=space, separators=separators, ensure_ascii=False)


def _arrays(value: Any) -> Any:
    if isinstance(value, list):
        return JsArray(_arrays(item) for item in value)
    if isinstance(value, JsObject):
        entries = value.as_object_map()
        for key, item in entries.items():
            entries[key] = _arrays(item)
    return value


def _plain(value: Any, replacer: Callable[..., Any] | None) -> Any:
    def item_of(key: str, item: Any) -> Any:
        return _plain(item if replacer is None else replacer(key, item), replacer)

    match value:
        case None | JsNull():
            return None
        case bool() | int() | str():
            return value
        case float():
            return number(value) if value - value == 0 else None
        case JsNumber():
            return value.valueOf()
        case JsDate():
            return value.toISOString()
        case JsObject():
            entries = value.as_object_map()
            return {key: item_of(key, item) for key, item in entries.items() if item is not None}
        case dict():
            return {str(key): item_of(str(key), item) for key, item in value.items()}
        case JsArray() | list() | tuple():
            return [item_of(str(at), item) for at, item in enumerate(value)]
        case JsMap() | JsSet():
            return {}
    convert = getattr(value, "toJSON", None)
    if convert is not None:
        return _plain(convert(), None)
    if isinstance(value, JsProxy):
        return {}
    raise JsTypeError(f"{type(value).__name__} cannot be written as JSON; convert it by to_js()")
