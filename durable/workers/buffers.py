"""Bytes in JavaScript: ArrayBuffer, the typed arrays, DataView."""

from __future__ import annotations

import array
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal, Self, TypeAlias

from .javascript import JsProxy, JsTypeError
from .js_collections import JsArray

Code: TypeAlias = Literal["b", "B", "h", "H", "i", "I", "f", "d"]
"""The layout of one number of an array, as for `memoryview.cast`."""


class JsBuffer(JsProxy):
    """Anything of JavaScript that is bytes. `to_bytes()` copies them, `to_py()` shows them."""

    _view: memoryview[Any]

    @property
    def byteLength(self) -> int:
        return self._view.nbytes

    def to_bytes(self) -> bytes:
        return self._view.tobytes()

    def to_memoryview(self) -> memoryview:
        return self._view

    def to_string(self, encoding: str = "utf-8") -> str:
        return self.to_bytes().decode(encoding)

    def _as_python(self, convert: Callable[[Any], Any]) -> Any:
        return self._view

    def __buffer__(self, flags: int) -> memoryview:
        return self._view

    def __bytes__(self) -> bytes:
        return self.to_bytes()

    def __len__(self) -> int:
        return len(self._view)


class ArrayBuffer(JsBuffer):
    js_name: ClassVar[str] = "ArrayBuffer"

    def __init__(self, content: int | bytes | bytearray | memoryview = 0) -> None:
        made = bytearray(content) if isinstance(content, int) else content
        self._view = memoryview(made).cast("B")

    def slice(self, start: int = 0, end: int | None = None) -> ArrayBuffer:
        return ArrayBuffer(bytearray(self._view[start:end]))


class TypedArray(JsBuffer):
    """A view of numbers of one kind, given by the subclass as *code*."""

    js_name: ClassVar[str] = "TypedArray"
    code: ClassVar[Code] = "B"

    def __init_subclass__(cls, *, code: Code | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if code is not None:
            cls.code, cls.js_name = code, cls.__name__

    def __init__(self, content: Any = 0, offset: int = 0, length: int | None = None) -> None:
        self.buffer: ArrayBuffer
        if isinstance(content, ArrayBuffer):
            self.buffer = content
            part = content.to_memoryview()[offset:]
            size = part.nbytes // self.BYTES_PER_ELEMENT if length is None else length
            self._view = part[: size * self.BYTES_PER_ELEMENT].cast(self.code)
            return
        if isinstance(content, int):
            raw: Any = bytearray(content * self.BYTES_PER_ELEMENT)
        elif isinstance(content, bytes | bytearray | memoryview) and self.code == "B":
            raw = bytearray(content)
        else:
            raw = bytearray(self._of_numbers(_numbers(content)))
        self.buffer = ArrayBuffer(raw)
        self._view = self.buffer.to_memoryview().cast(self.code)

    @property
    def BYTES_PER_ELEMENT(self) -> int:
        return array.array(self.code).itemsize

    @property
    def length(self) -> int:
        return len(self._view)

    @classmethod
    def of(cls, *numbers: Any) -> Self:
        return cls(JsArray(numbers))

    @classmethod
    def from_(cls, numbers: Iterable[Any]) -> Self:
        return cls(JsArray(numbers))

    def subarray(self, start: int = 0, end: int | None = None) -> Self:
        made = self.__class__.__new__(self.__class__)
        made.buffer = self.buffer
        made._view = self._view[start:end]
        return made

    def slice(self, start: int = 0, end: int | None = None) -> Self:
        return self.__class__(JsArray(self._view[start:end].tolist()))

    def set(self, numbers: Any, offset: int = 0) -> None:
        given = list(_numbers(numbers))
        for position, value in enumerate(given, offset):
            self[position] = value

    def __getitem__(self, index: Any) -> Any:
        found = self._view[index]
        return found.tolist() if isinstance(found, memoryview) else found

    def __setitem__(self, index: int, value: Any) -> None:
        self._view[index] = self._of_numbers([value])[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._view.tolist())

    def _of_numbers(self, numbers: Iterable[Any]) -> array.array[Any]:
        if self.code in "df":
            return array.array(self.code, [float(each) for each in numbers])
        bits = 8 * self.BYTES_PER_ELEMENT
        wrapped = [int(float(each)) % (1 << bits) for each in numbers]
        if self.code.islower():
            wrapped = [each - (1 << bits) if each >> (bits - 1) else each for each in wrapped]
        return array.array(self.code, wrapped)


def _clamped(number: float) -> int:
    """The nearest byte, the even one of two; 0 for NaN."""
    return 0 if math.isnan(number) else round(min(max(number, 0.0), 255.0))


def _numbers(content: Any) -> Iterable[Any]:
    if isinstance(content, JsBuffer):
        return list(content.to_memoryview())
    if isinstance(content, Iterable):
        return content
    raise JsTypeError(f"a typed array is made of a length, bytes or numbers, not {content!r}")


class Uint8Array(TypedArray, code="B"):
    """Bytes."""


class Uint8ClampedArray(TypedArray, code="B"):
    """Bytes; another number becomes the nearest byte."""

    def _of_numbers(self, numbers: Iterable[Any]) -> array.array[Any]:
        return array.array("B", [_clamped(float(each)) for each in numbers])


class Int8Array(TypedArray, code="b"):
    """Integers of 8 bits."""


class Uint16Array(TypedArray, code="H"):
    """Natural numbers of 16 bits."""


class Int16Array(TypedArray, code="h"):
    """Integers of 16 bits."""


class Uint32Array(TypedArray, code="I"):
    """Natural numbers of 32 bits."""


class Int32Array(TypedArray, code="i"):
    """Integers of 32 bits."""


class Float32Array(TypedArray, code="f"):
    """Numbers of 32 bits."""


class Float64Array(TypedArray, code="d"):
    """Numbers of 64 bits."""


class DataView(JsBuffer):
    js_name: ClassVar[str] = "DataView"

    def __init__(self, buffer: ArrayBuffer, offset: int = 0, length: int | None = None) -> None:
        self.buffer: ArrayBuffer = buffer
        end = None if length is None else offset + length
        self._view = buffer.to_memoryview()[offset:end]


def bytes_of(content: Any) -> bytes | None:
    """The bytes of *content*, if it is Python's or JavaScript's bytes; else None."""
    if isinstance(content, JsBuffer):
        return content.to_bytes()
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    return None
