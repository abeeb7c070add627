"""JavaScript's objects, arrays, Maps and Sets as Python sees them, and options given as one."""

from __future__ import annotations

from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
)
from typing import Any, ClassVar, Self, overload

from .javascript import JsProxy, JsTypeError, js_key, js_text, jsnull


class JsObject(JsProxy):
    """A plain object: its keys are attributes."""

    _entries: dict[str, Any]

    def __init__(self, entries: Mapping[Any, Any] | None = None, /, **more: Any) -> None:
        found = {js_key(key): value for key, value in {**(entries or {}), **more}.items()}
        object.__setattr__(self, "_entries", found)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._entries[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self._entries[name] = value

    def __delattr__(self, name: str) -> None:
        self._entries.pop(name, None)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._entries]

    def object_keys(self) -> JsArray:
        return JsArray(self._entries)

    def object_values(self) -> JsArray:
        return JsArray(self._entries.values())

    def object_entries(self) -> JsArray:
        return JsArray(JsArray(pair) for pair in self._entries.items())

    def _as_python(self, convert: Callable[[Any], Any]) -> Any:
        return {key: convert(item) for key, item in self._entries.items()}

    def as_object_map(self, *, hereditary: bool = False) -> dict[str, Any]:
        """The object itself as a mapping."""
        return self._entries


class JsArray(JsProxy, MutableSequence[Any]):
    """An array."""

    js_name: ClassVar[str] = "Array"

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items: list[Any] = list(items)

    @classmethod
    def new(cls, *items: Any, **options: Any) -> Self:
        if len(items) == 1 and isinstance(items[0], int):
            return cls([None] * items[0])
        return cls(items)

    @classmethod
    def of(cls, *items: Any) -> Self:
        return cls(items)

    @classmethod
    def from_(cls, items: Iterable[Any]) -> Self:
        return cls(items)

    @staticmethod
    def isArray(value: Any) -> bool:
        return isinstance(value, JsArray)

    @property
    def length(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> JsArray: ...
    def __getitem__(self, index: int | slice) -> Any:
        found = self._items[index]
        return JsArray(found) if isinstance(index, slice) else found

    def __setitem__(self, index: Any, value: Any) -> None:
        self._items[index] = value

    def __delitem__(self, index: int | slice) -> None:
        del self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def insert(self, index: int, value: Any) -> None:
        self._items.insert(index, value)

    def push(self, *values: Any) -> int:
        self._items.extend(values)
        return len(self._items)

    def join(self, between: str = ",") -> str:
        return between.join("" if item is None else js_text(item) for item in self._items)

    def includes(self, value: Any) -> bool:
        return value in self._items

    def indexOf(self, value: Any) -> int:
        return self._items.index(value) if value in self._items else -1

    def concat(self, *others: Any) -> JsArray:
        made = list(self._items)
        for other in others:
            made += other if isinstance(other, JsArray | list | tuple) else [other]
        return JsArray(made)

    def slice(self, start: int | None = None, end: int | None = None) -> JsArray:
        return JsArray(self._items[start:end])

    def map(self, fn: Callable[..., Any]) -> JsArray:
        return JsArray(fn(item) for item in self._items)

    def filter(self, fn: Callable[..., Any]) -> JsArray:
        return JsArray(item for item in self._items if fn(item))

    def forEach(self, fn: Callable[..., Any]) -> None:
        for item in list(self._items):
            fn(item)

    def object_values(self) -> JsArray:
        return JsArray(self._items)

    def object_entries(self) -> JsArray:
        return JsArray(JsArray((str(n), item)) for n, item in enumerate(self._items))

    def _as_python(self, convert: Callable[[Any], Any]) -> Any:
        return [convert(item) for item in self]

    def __str__(self) -> str:
        return self.join()


class JsMap(JsProxy, MutableMapping[Any, Any]):
    """A Map."""

    js_name: ClassVar[str] = "Map"

    def __init__(self, entries: Mapping[Any, Any] | Iterable[Any] = ()) -> None:
        self._entries: dict[Any, Any] = (
            dict(entries) if isinstance(entries, Mapping) else {key: v for key, v in entries}  # noqa: C416 - pairs may be arrays
        )

    def __getitem__(self, key: Any) -> Any:
        return self._entries[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._entries[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._entries[key]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        return len(self._entries)

    def set(self, key: Any, value: Any) -> Self:
        self._entries[key] = value
        return self

    def has(self, key: Any) -> bool:
        return key in self._entries

    def delete(self, key: Any) -> bool:
        return self._entries.pop(key, self) is not self

    def _as_python(self, convert: Callable[[Any], Any]) -> Any:
        return {convert(key): convert(item) for key, item in self._entries.items()}

    def entries(self) -> JsArray:
        return JsArray(JsArray(pair) for pair in self._entries.items())

    def forEach(self, fn: Callable[..., Any]) -> None:
        for key, value in list(self._entries.items()):
            fn(value, key)


class JsSet(JsProxy, MutableSet[Any]):
    """A Set."""

    js_name: ClassVar[str] = "Set"

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items: dict[Any, None] = dict.fromkeys(items)

    def __contains__(self, item: object) -> bool:
        return item in self._items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def size(self) -> int:
        return len(self._items)

    def add(self, value: Any) -> None:
        self._items[value] = None

    def discard(self, value: Any) -> None:
        self._items.pop(value, None)

    def has(self, value: Any) -> bool:
        return value in self._items

    def delete(self, value: Any) -> bool:
        return self._items.pop(value, self) is not self

    def _as_python(self, convert: Callable[[Any], Any]) -> Any:
        return {convert(item) for item in self}

    def values(self) -> JsArray:
        return JsArray(self._items)


def options_of(given: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a call, which are an object of JavaScript, a dict, or keywords."""
    options: dict[str, Any] = {}
    if isinstance(given, JsObject):
        options.update(given.as_object_map())
    elif isinstance(given, Mapping):
        options.update(given)
    elif given is not None and given is not jsnull:
        raise JsTypeError(f"the options must be an object, not {given!r}")
    options.update(keywords)
    return {key: value for key, value in options.items() if value is not None}
