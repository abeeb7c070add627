"""JavaScript's values as Python sees them in a Worker: `JsProxy`, and the kinds of it.

In Cloudflare's runtime these are objects of a JavaScript engine. Here they are Python's, with the
names and the behaviour that programs use. Numbers, texts and booleans need no proxy.
"""

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

from attrs import frozen


@frozen
class Constructor:
    """What `value.constructor` is asked for: its name."""

    name: str


class JsProxy:
    """A value of JavaScript."""

    js_name: ClassVar[str] = "Object"
    typeof: ClassVar[str] = "object"

    @classmethod
    def new(cls, *args: Any, **options: Any) -> Self:
        """What `new` makes in JavaScript."""
        return cls(*args, **options)

    @property
    def constructor(self) -> Constructor:
        return Constructor(self.js_name)

    @property
    def js_id(self) -> int:
        return id(self)

    def to_py(self, *, depth: int = -1, default_converter: Callable[..., Any] | None = None) -> Any:
        """The value as Python's own, where Python has one of the kind; else itself."""
        return to_py(self, default_converter)

    def _as_python(self, convert: Callable[[Any], Any]) -> Any:
        """What `to_py` makes of it, with what is in it converted; NotImplemented if nothing."""
        return NotImplemented

    def destroy(self) -> None:
        """Nothing: Python's garbage collector sees all that is here."""

    def toString(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"[object {self.js_name}]"


class JsNull:
    """JavaScript's null, where it is told from undefined."""

    _only: ClassVar[JsNull | None] = None

    def __new__(cls) -> JsNull:
        if cls._only is None:
            cls._only = super().__new__(cls)
        return cls._only

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "jsnull"


jsnull: JsNull = JsNull()


class JsException(Exception, JsProxy):
    """An error of JavaScript, as Python catches it. `name` is its kind, such as TypeError."""

    js_name: ClassVar[str] = "Error"

    def __init__(self, message: Any = "", *, name: str | None = None, **fields: Any) -> None:
        self.message: str = str(message)
        self.name: str = self.js_name if name is None else name
        self.stack: str = ""
        for field, value in fields.items():
            setattr(self, field, value)
        super().__init__(f"{self.name}: {self.message}" if self.message else self.name)

    def __str__(self) -> str:
        return str(self.args[0])

    def __repr__(self) -> str:
        return f"JsException({self.args[0]!r})"


class JsTypeError(JsException):
    js_name: ClassVar[str] = "TypeError"


class JsRangeError(JsException):
    js_name: ClassVar[str] = "RangeError"


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


class JsNumber(JsProxy):
    """A number in its box, as `Number.new` makes one."""

    js_name: ClassVar[str] = "Number"

    def __init__(self, value: Any = 0) -> None:
        self._value = number(float(value))

    def valueOf(self) -> int | float:
        return self._value

    def _as_python(self, convert: Callable[[Any], Any]) -> Any:
        return self._value

    def __str__(self) -> str:
        return js_text(self._value)


class JsRegExp(JsProxy):
    """A regular expression, which is of no use here but to be refused."""

    js_name: ClassVar[str] = "RegExp"

    def __init__(self, source: str = "", flags: str = "") -> None:
        self.source: str = source
        self.flags: str = flags


class JsDoubleProxy(JsProxy):
    """What `create_proxy` makes: Python's object, as JavaScript holds it."""

    js_name: ClassVar[str] = "PyProxy"

    def __init__(self, target: Any) -> None:
        self._target = target

    def _as_python(self, convert: Callable[[Any], Any]) -> Any:
        return self._target

    def unwrap(self) -> Any:
        return self._target

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._target(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


def number(value: float) -> int | float:
    """A number of JavaScript as Python gets it: an int where it is whole and safe."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def js_text(value: Any) -> str:
    """`String(value)`."""
    if value is None:
        return "undefined"
    if value is jsnull:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(number(value)).replace("inf", "Infinity").replace("nan", "NaN")
    return str.__str__(value) if isinstance(value, str) else str(value)


js_key = js_text


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


def to_py(value: Any, default: Callable[..., Any] | None = None) -> Any:
    """*value* as Python's own: arrays as lists, objects and Maps as dicts, Sets as sets."""

    def convert(each: Any) -> Any:
        if not isinstance(each, JsProxy):
            return each
        made = each._as_python(convert)
        if made is not NotImplemented:
            return made
        return each if default is None else default(each, convert, lambda *_: None)

    return convert(value)


def callable_of(fn: Any) -> Callable[..., Any]:
    """The function that was given, without the proxy around it."""
    found = fn.unwrap() if isinstance(fn, JsDoubleProxy) else fn
    if not callable(found):
        raise JsTypeError(f"a function is wanted here, not {fn!r}")
    called: Callable[..., Any] = found
    return called
