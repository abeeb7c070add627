"""JavaScript's values as Python sees them in a Worker: `JsProxy`, and the kinds of it.

In Cloudflare's runtime these are objects of a JavaScript engine. Here they are Python's, with the
names and the behaviour that programs use. Numbers, texts and booleans need no proxy.
"""

from __future__ import annotations

from collections.abc import (
    Callable,
)
from typing import Any, ClassVar, Self

from attrs import frozen


@frozen
class Constructor:
    """`value.constructor`, of which programs use the name."""

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
        """The value as a Python value, if Python has one of the kind; else itself."""
        return to_py(self, default_converter)

    def _as_python(self, convert: Callable[[Any], Any]) -> Any:
        """The result of `to_py`, with the contents converted; NotImplemented if there is none."""
        return NotImplemented

    def destroy(self) -> None:
        """Does nothing: Python's garbage collector frees everything here."""

    def toString(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        return f"[object {self.js_name}]"


class JsNull:
    """JavaScript's null, if it is distinguished from undefined."""

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
    """A regular expression, which every function here refuses."""

    js_name: ClassVar[str] = "RegExp"

    def __init__(self, source: str = "", flags: str = "") -> None:
        self.source: str = source
        self.flags: str = flags


class JsDoubleProxy(JsProxy):
    """The result of `create_proxy`: a Python object, as JavaScript holds it."""

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
    """A number of JavaScript as Python gets it: an int if it is a safe integer."""
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


def to_py(value: Any, default: Callable[..., Any] | None = None) -> Any:
    """*value* as a Python value: arrays as lists, objects and Maps as dicts, Sets as sets."""

    def convert(each: Any) -> Any:
        if not isinstance(each, JsProxy):
            return each
        made = each._as_python(convert)
        if made is not NotImplemented:
            return made
        return each if default is None else default(each, convert, lambda *_: None)

    return convert(value)


def callable_of(fn: Any) -> Callable[..., Any]:
    """The function without the proxy around it."""
    found = fn.unwrap() if isinstance(fn, JsDoubleProxy) else fn
    if not callable(found):
        raise JsTypeError(f"a function is needed here, not {fn!r}")
    called: Callable[..., Any] = found
    return called
